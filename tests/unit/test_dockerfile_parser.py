"""From text to instructions, and what the parser says of text that is none."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.parser import parse


def one(text):
    return parse(f"FROM x\n{text}\n").instructions[1]


def test_comments_blank_lines_and_continuations():
    recipe = parse(
        "\ufeff# a comment\n\n  FROM a\r\nRUN echo one \\\n # comment\n   two \\   \n\n  three\nUSER me\\\\\n"
    )
    assert [step.location.line for step in recipe.instructions] == [3, 4, 9]
    assert recipe.instructions[1].args == ("echo one    two   three",)
    assert recipe.instructions[2].user == "me\\\\"


def test_directives_are_read_at_the_top_alone():
    recipe = parse("# escape=`\n# syntax = docker/dockerfile:1\n# check=skip=all\nFROM a\nENV a=b`\nc=d\n")
    assert recipe.escape == "`"
    assert recipe.instructions[1].pairs == (("a", "bc=d"),)
    assert parse("# note\n# escape=`\nFROM a").escape == "\\"
    assert parse("FROM a\n# escape=x").escape == "\\"


def test_from():
    start = parse("from --platform=linux/arm64 img:1 As Base").instructions[0]
    assert (start.image, start.name, start.platform) == ("img:1", "base", "linux/arm64")


@pytest.mark.parametrize(
    ("text", "args", "shell_form"),
    [
        ("RUN echo  'a b'", ("echo  'a b'",), True),
        ('RUN ["a", "b c"]', ("a", "b c"), False),
        ("RUN ['a']", ("['a']",), True),
        ('CMD  [ "a" , "b" ]', ("a", "b"), False),
        ('CMD ["a', ('["a',), True),
        ("CMD", (), True),
        ("CMD []", (), False),
        ("ENTRYPOINT top -b", ("top -b",), True),
    ],
)
def test_shell_and_exec_form(text, args, shell_form):
    step = one(text)
    assert (step.args, step.shell_form) == (args, shell_form)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('ENV a=b c="d e" f\\ g=1', (("a", "b"), ("c", '"d e"'), ("f\\ g", "1"))),
        ("ENV x y  z $a", (("x", "y  z $a"),)),
        ("ENV a= b=", (("a", ""), ("b", ""))),
        ("LABEL k v w", (("k", "v w"),)),
        ('LABEL "m n"=2 a.b=c=d', (('"m n"', "2"), ("a.b", "c=d"))),
    ],
)
def test_pairs(text, pairs):
    assert one(text).pairs == pairs


def test_copy_and_add():
    step = one('COPY --from=build --chown=1:2 --chmod=0755 --link a "b c" /d/')
    assert (step.sources, step.destination) == (("a", '"b', 'c"'), "/d/")
    assert (step.source_stage, step.chown, step.chmod) == ("build", "1:2", "0755")
    assert one('ADD ["a b", "/c"]').sources == ("a b",)


def test_heredocs_of_run():
    step = one("RUN <<EOF\necho a \\\n  # kept\n\necho b\nEOF")
    assert step.args == ("<<EOF",)
    assert step.heredocs[0].content == "echo a \\\n  # kept\n\necho b\n"
    two = one("RUN cat <<A 3<<-'B' > /x\n1\nA\n\t2\n\tB")
    assert [(d.name, d.content, d.expand, d.descriptor) for d in two.heredocs] == [
        ("A", "1\n", True, ""),
        ("B", "2\n", False, "3"),
    ]


def test_heredocs_of_copy_and_lines_after():
    recipe = parse('FROM x\nCOPY <<a <<"b" /d/\nA $v\na\nB\nb\nUSER u')
    copy, user = recipe.instructions[1:]
    assert [(d.name, d.content, d.expand) for d in copy.heredocs] == [("a", "A $v\n", True), ("b", "B\n", False)]
    assert user.location.line == 7


def test_healthcheck():
    step = one('HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --retries=3 CMD ["a", "b"]')
    assert step.check.test == ["CMD", "a", "b"]
    assert step.check.interval == 90 * 10**9
    assert step.check.timeout == 5 * 10**8
    assert step.check.retries == 3
    assert one("HEALTHCHECK CMD a  b").check.test == ["CMD-SHELL", "a  b"]
    assert one("HEALTHCHECK NONE").check.test == ["NONE"]


def test_the_rest():
    assert one("ARG a b=c d=").arguments == (("a", None), ("b", "c"), ("d", ""))
    assert one("EXPOSE 80-82 53/udp").ports == ("80-82", "53/udp")
    assert one('VOLUME ["/a b"]').paths == ("/a b",)
    assert one('SHELL ["/bin/sh", "-ec"]').args == ("/bin/sh", "-ec")
    assert one("ONBUILD   RUN  echo   hi").trigger == "RUN  echo   hi"
    assert one("ONBUILD RUN <<E\nx\nE").trigger == "RUN <<E\nx\nE"
    assert one("MAINTAINER me you").author == "me you"
    assert one("RUN --network=none x").network == "none"
    assert isinstance(one("workdir a b"), ins.Workdir)


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("RNU x", "unknown instruction: RNU", "RUN?"),
        ("QQQQQQ x", "unknown instruction: QQQQQQ", "There are"),
        ("ENV a", "must have two arguments", "ENV a=VALUE"),
        ("ENV a=b c", "can't find =", "Quote"),
        ("ENV =b", "can not be blank", ""),
        ("LABEL", "at least one argument", ""),
        ("FROM", "either one or three arguments", "AS NAME"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b"', "begins with a letter"),
        ("FROM a IS b", "AS is expected", ""),
        ("COPY a", "at least two arguments", "DESTINATION"),
        ("COPY --foo=1 a b", "unknown flag: foo", "--from"),
        ("COPY --chwon=1 a b", "unknown flag: chwon", "--chown?"),
        ("COPY --chown a b", "missing a value on flag: chown", "--chown=VALUE"),
        ("COPY --chown=1 --chown=2 a b", "duplicate flag", ""),
        ("COPY --from=$x a b", "not supported for --from", "FROM ${x}"),
        ("COPY --parents a b", "--parents is not supported", "COPY"),
        ("RUN --mount=type=cache,target=/x true", "--mount is not supported", "COPY"),
        ("RUN --network=x true", "invalid network mode", "host"),
        ("RUN", "requires a command", ""),
        ('RUN ["a", 1]', "arrays must be comprised of strings only", "Quote"),
        ("RUN <<EOF\nx", "unterminated heredoc", "EOF alone"),
        ("USER", "exactly one argument", ""),
        ("WORKDIR ", "exactly one argument", ""),
        ("SHELL a", "in JSON form", '["/bin/sh", "-c"]'),
        ("ARG", "at least one argument", ""),
        ("VOLUME", "at least one argument", ""),
        ("EXPOSE", "at least one argument", ""),
        ("HEALTHCHECK FOO", 'unknown type "FOO"', "CMD"),
        ("HEALTHCHECK CMD", "missing command", ""),
        ("HEALTHCHECK --interval=foo CMD a", 'invalid duration "foo"', "30s"),
        ("HEALTHCHECK --interval=1us CMD a", "less than 1ms", ""),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries", ""),
        ("ONBUILD", "at least one argument", ""),
        ("ONBUILD FROM x", "FROM isn't allowed", ""),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD", ""),
        ("ONBUILD RNU x", "unknown instruction: RNU", "RUN?"),
        ("MAINTAINER", "exactly one argument", ""),
        ("CMD --x=1 a", "unknown flag: x", "CMD has no flags"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(text, why, remedy):
    with pytest.raises(InvalidArgument) as caught:
        parse(f"FROM x\n\n{text}\n", "sub/My.Dockerfile")
    assert caught.value.what == "sub/My.Dockerfile:3"
    assert why in caught.value.why
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "no instructions"),
        ("# only\n# comments", 1, "no instructions"),
        ("# escape=x\nFROM a", 1, "invalid escape"),
        ("# escape=`\n# escape=`\nFROM a", 2, "only one escape"),
    ],
)
def test_a_file_that_is_no_recipe(text, line, why):
    with pytest.raises(InvalidArgument, match=f"^Dockerfile:{line}: .*{why}"):
        parse(text)
