"""The part of Go's text/template that people use with --format.

Fields, pipelines, variables, parentheses, `if`/`else if`/`else`, `range`, `with`, white space
trimming, and the functions of `functions`. Data is JSON: mappings, lists and scalars; a
callable in a mapping is a method.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any

from hooper.api.errors import InvalidArgument
from hooper.gotemplate.functions import FUNCTIONS, show, truthy
from hooper.gotemplate.values import optional

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_KEYWORD = re.compile(r"(?:if|with|range|else|end|break|continue)\b")
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<field>(?:\.[A-Za-z_]\w*)+)"""
    r"""|(?P<variable>\$\w*)|(?P<word>[A-Za-z_]\w*)|(?P<sign>:=|[.()|,=]))"""
)
_CONSTANTS = {"true": True, "false": False, "nil": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
Token = tuple[str, str]
Scope = ChainMap[str, Any]


class TemplateError(InvalidArgument):
    """A template that cannot be parsed, or that does not fit the data."""


def render(template: str, data: Any) -> str:
    """`template` filled in with `data`; TemplateError."""
    return Template(template).render(data)


class Template:
    """A parsed template; TemplateError if it cannot be parsed."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._parts = _split(source)
        self._at = 0
        self._body = self._parse_body(())
        if self._at < len(self._parts):
            raise _error(source, f"unexpected {{{{{self._parts[self._at][1]}}}}}")

    def render(self, data: Any) -> str:
        """The text; TemplateError where a field is not there."""
        output: list[str] = []
        _run(self._body, data, ChainMap({"$": data}), output)
        return "".join(output)

    def _parse_body(self, ends: tuple[str, ...]) -> list[Node]:
        nodes: list[Node] = []
        while self._at < len(self._parts):
            is_action, text = self._parts[self._at]
            keyword = _KEYWORD.match(text) if is_action else None
            word = keyword[0] if keyword else ""
            if word in ("end", "else"):
                if word in ends:
                    return nodes
                raise _error(self.source, f"unexpected {{{{{text}}}}}")
            self._at += 1
            if not is_action:
                nodes.append(Text(text))
            elif word in ("if", "with", "range"):
                nodes.append(self._parse_block(word, text[len(word) :]))
            elif word in ("break", "continue"):
                nodes.append(Jump(word))
            elif not text.startswith("/*"):
                names, value = _pipeline(self.source, text)
                nodes.append(Action(names, value, declares=":=" in text))
        if ends:
            raise _error(self.source, "an {{end}} is missing")
        return nodes

    def _parse_block(self, kind: str, condition: str) -> Block:
        names, value = _pipeline(self.source, condition)
        body = self._parse_body(("else", "end"))
        otherwise: list[Node] = []
        word = self._parts[self._at][1].strip()
        self._at += 1
        if word == "else":
            otherwise = self._parse_body(("end",))
            self._at += 1
        elif word != "end":
            inner, _, rest = word.removeprefix("else").strip().partition(" ")
            otherwise = [self._parse_block(inner, rest)]
        return Block(kind, names, value, body, otherwise)


def _split(source: str) -> list[tuple[bool, str]]:
    """(is an action, text) in order, white space trimmed as `{{-` and `-}}` ask for."""
    parts: list[tuple[bool, str]] = []
    end, trim = 0, False
    for match in _ACTION.finditer(source):
        text = source[end : match.start()]
        text = text.lstrip() if trim else text
        parts.append((False, text.rstrip() if match[1] else text))
        parts.append((True, match[2].strip()))
        end, trim = match.end(), bool(match[3])
    tail = source[end:]
    if "{{" in tail:
        raise _error(source, "an action is not closed: }} is missing")
    parts.append((False, tail.lstrip() if trim else tail))
    return [part for part in parts if part[0] or part[1]]


class Text:
    """Plain text."""

    def __init__(self, text: str) -> None:
        self.text = text


class Action:
    """`{{pipeline}}`, `{{$name := pipeline}}` (it `declares`) or `{{$name = pipeline}}`."""

    def __init__(self, names: list[str], value: Expression, *, declares: bool) -> None:
        self.names, self.value, self.declares = names, value, declares


class Jump:
    """`{{break}}` or `{{continue}}`."""

    def __init__(self, word: str) -> None:
        self.word = word


class _Jumped(Exception):
    """A jump on its way to the `range` that it is in; `leaves` tells break from continue."""

    def __init__(self, leaves: bool) -> None:
        super().__init__()
        self.leaves = leaves


class Block:
    """`if`, `with` or `range` with its two bodies."""

    def __init__(self, kind: str, names: list[str], value: Expression, body: list[Node], otherwise: list[Node]) -> None:
        self.kind, self.names, self.value, self.body, self.otherwise = kind, names, value, body, otherwise


Node = Text | Action | Block | Jump


def _run(nodes: list[Node], dot: Any, scope: Scope, output: list[str]) -> None:
    for node in nodes:
        if isinstance(node, Text):
            output.append(node.text)
        elif isinstance(node, Block):
            _run_block(node, dot, scope.new_child(), output)
        elif isinstance(node, Jump):
            raise _Jumped(node.word == "break")
        else:
            value = node.value.evaluate(dot, scope)
            if not node.names:
                output.append(show(value))
            elif node.declares:
                scope[node.names[0]] = value
            else:
                _assign(scope, node.names[0], value)


def _assign(scope: Scope, name: str, value: Any) -> None:
    """Sets a variable where it was declared, in a block further out perhaps."""
    for variables in scope.maps:
        if name in variables:
            variables[name] = value
            return
    raise TemplateError("failed to execute template", f"undefined variable {name}")


def _run_block(block: Block, dot: Any, scope: Scope, output: list[str]) -> None:
    value = block.value.evaluate(dot, scope)
    if not truthy(value):
        _run(block.otherwise, dot, scope, output)
    elif block.kind == "range":
        for key, item in _items(value):
            named = dict(zip(block.names, [key, item] if len(block.names) > 1 else [item], strict=False))
            try:
                _run(block.body, item, scope.new_child(named), output)
            except _Jumped as jump:
                if jump.leaves:
                    break
    else:
        inner = scope.new_child(dict.fromkeys(block.names, value))
        _run(block.body, value if block.kind == "with" else dot, inner, output)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return iter(sorted(value.items()))
    if isinstance(value, list | tuple):
        return iter(enumerate(value))
    raise TemplateError("failed to execute template", f"range can't iterate over {show(value)}")


class Expression:
    """A pipeline: commands, each given the one before it as its last argument."""

    def __init__(self, commands: list[list[Operand]]) -> None:
        self.commands = commands

    def evaluate(self, dot: Any, scope: Scope) -> Any:
        """The pipeline's value where `.` is `dot`."""
        piped: list[Any] = []
        for head, *operands in self.commands:
            if head.kind == "function" and head.value in ("and", "or") and operands:
                piped = [_decided(head.value, operands, dot, scope, piped)]
                continue
            arguments = [operand.evaluate(dot, scope) for operand in operands] + piped
            piped = [head.call(dot, scope, arguments)]
        return piped[0]


def _decided(word: str, operands: list[Operand], dot: Any, scope: Scope, piped: list[Any]) -> Any:
    """`and` and `or` look at no more operands than it takes to decide."""
    value: Any = None
    for operand in operands:
        value = operand.evaluate(dot, scope)
        if truthy(value) == (word == "or"):
            return value
    return piped[0] if piped else value


class Operand:
    """A constant, a variable, a function, or a value in parentheses, with the fields that are taken of it."""

    def __init__(self, kind: str, value: Any) -> None:
        self.kind, self.value = kind, value
        self.fields: list[str] = []

    def evaluate(self, dot: Any, scope: Scope) -> Any:
        """The operand as an argument."""
        return self.call(dot, scope, [])

    def call(self, dot: Any, scope: Scope, arguments: list[Any]) -> Any:
        """The operand at the head of a command."""
        if self.kind == "function":
            return _guarded(self.value, FUNCTIONS[self.value], arguments)
        value: Any = self.value
        if self.kind == "dot":
            value = dot
        elif self.kind == "variable":
            if self.value not in scope:
                raise TemplateError("failed to execute template", f"undefined variable {self.value}")
            value = scope[self.value]
        elif self.kind == "nested":
            value = self.value.evaluate(dot, scope)
        for field in self.fields:
            value = _field(value, field)
        if callable(value):
            return _guarded(self.fields[-1], value, arguments)
        if arguments:
            raise TemplateError("failed to execute template", f"{show(value)} is not a function")
        return value


def _guarded(name: str, function: Any, arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, LookupError) as error:
        raise TemplateError("failed to execute template", f"error calling {name}: {error}") from error


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping) and name in value:
        return value[name]
    has, item = optional(value, name)
    if has:
        return item
    if isinstance(value, Mapping):
        known = sorted(str(key) for key in value)
        raise TemplateError(
            "failed to execute template",
            f'there is no field "{name}"',
            f"There are: {', '.join(known)}." if 0 < len(known) <= 40 else "",
        )
    raise TemplateError("failed to execute template", f'no field "{name}" can be taken of {show(value)}')


def _pipeline(source: str, text: str) -> tuple[list[str], Expression]:
    """The variables that an action declares, and its value."""
    tokens = _tokens(source, text)
    names: list[str] = []
    for index, (kind, value) in enumerate(tokens):
        if value in (":=", "="):
            names = [word for sort, word in tokens[:index] if sort == "variable"]
            tokens = tokens[index + 1 :]
            break
        if kind != "variable" and value != ",":
            break
    expression = _expression(source, tokens)
    if tokens:
        raise _error(source, f'unexpected "{tokens[0][1]}"')
    return names, expression


def _tokens(source: str, text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            raise _error(source, f'cannot read "{text[at:].strip()}"')
        # A field right behind a variable or a parenthesis belongs to it.
        kind = str(match.lastgroup)
        behind = bool(tokens) and (tokens[-1][0] == "variable" or tokens[-1][1] == ")")
        adjoins = kind == "field" and behind and match.start("field") == at
        tokens.append(("of" if adjoins else kind, match[kind]))
        at = match.end()
    return tokens


def _expression(source: str, tokens: list[Token]) -> Expression:
    commands: list[list[Operand]] = [[]]
    while tokens and tokens[0][1] != ")":
        kind, value = tokens.pop(0)
        if value == "|" and kind == "sign":
            commands.append([])
        elif kind == "of":
            commands[-1][-1].fields += value[1:].split(".")
        else:
            commands[-1].append(_operand(source, kind, value, tokens))
    if not all(commands):
        raise _error(source, "a command is missing its value")
    return Expression(commands)


def _operand(source: str, kind: str, value: str, tokens: list[Token]) -> Operand:
    if kind == "string":
        return Operand("constant", value[1:-1] if value[0] == "`" else _unescape(value[1:-1]))
    if kind == "number":
        return Operand("constant", float(value) if "." in value else int(value))
    if kind == "field" or value == ".":
        operand = Operand("dot", None)
        operand.fields = value[1:].split(".") if kind == "field" else []
        return operand
    if kind == "variable":
        return Operand("variable", value)
    if kind == "word" and value in _CONSTANTS:
        return Operand("constant", _CONSTANTS[value])
    if kind == "word" and value in FUNCTIONS:
        return Operand("function", value)
    if value == "(":
        inner = _expression(source, tokens)
        if not tokens:
            raise _error(source, "a ) is missing")
        tokens.pop(0)
        return Operand("nested", inner)
    reason = f'function "{value}" not defined' if kind == "word" else f'unexpected "{value}"'
    raise _error(source, reason)


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)


def _error(source: str, why: str) -> TemplateError:
    return TemplateError(f"failed to parse template {source!r}", why, "For example: --format '{{.ID}}'")
