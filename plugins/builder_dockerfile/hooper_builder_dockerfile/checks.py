"""What is doubtful in a Dockerfile that can be built: the checks of `--check`, by BuildKit's list of rules.

This file has the rules that the text alone decides; those that follow variables are in `check_stages`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hooper.api.builder import BuildWarning
from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.check_rules import CheckOptions, Reporter
from hooper_builder_dockerfile.check_stages import Known, check_stages
from hooper_builder_dockerfile.faults import Location

OVERRIDE = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that replaces what the Dockerfile's "# check=" says."""

_RESERVED = ("context", "scratch")
_NOTHING_KNOWN = Known()


def check(recipe: ins.Recipe, known: Known = _NOTHING_KNOWN) -> list[BuildWarning]:
    """The warnings, by line. InvalidArgument for options of a check that are none."""
    reporter = Reporter(check_options(recipe, known.build_args))
    for step in recipe.instructions:
        _check_writing(step, reporter)
    _check_casing(recipe, reporter)
    _check_stage_names(recipe, reporter)
    check_stages(recipe, known, reporter)
    return reporter.sorted()


def check_options(recipe: ins.Recipe, build_args: Mapping[str, str | None]) -> CheckOptions:
    """InvalidArgument for what is no option."""
    text = build_args.get(OVERRIDE)
    with _directive(recipe).blamed():
        return CheckOptions.of((recipe.directives.check if text is None else text).split(" ", 1)[0])


def refusal(
    recipe: ins.Recipe, warnings: Sequence[BuildWarning], build_args: Mapping[str, str | None]
) -> InvalidArgument | None:
    """The error that a build ends with if it has warnings and its options say error=true."""
    if not warnings or not check_options(recipe, build_args).error:
        return None
    rules = ", ".join(sorted({warning.rule for warning in warnings}))
    return _directive(recipe).error(
        f"lint violation found for rules: {rules}", "Mend them, or leave a rule out with `# check=skip=RULE`."
    )


def _directive(recipe: ins.Recipe) -> Location:
    """Where "# check=" stands; the first line if it stands nowhere."""
    for number, line in enumerate(recipe.source, 1):
        if recipe.directives.check and re.match(r"\ufeff?\s*#\s*check\s*=", line, re.IGNORECASE):
            return Location(recipe.file, number, number, recipe.source)
    return Location(recipe.file, 1, 1, recipe.source)


# --- one instruction ----------------------------------------------------------------------------------


def _check_writing(step: ins.Instruction, reporter: Reporter) -> None:
    if step.writing.empty_lines:
        line = step.writing.empty_lines[0]
        place = Location(step.location.file, line, line, step.location.source)
        reporter.warn("NoEmptyContinuation", step, "Empty continuation line", place)
    if isinstance(step, ins.Maintainer):
        reporter.warn("MaintainerDeprecated", step, "MAINTAINER is deprecated in favor of a LABEL")
    if isinstance(step, ins.Pairs) and step.legacy:
        word = step.writing.keyword
        message = f'"{word} key=value" should be used instead of the legacy format "{word} key value"'
        reporter.warn("LegacyKeyValueFormat", step, message)
    if isinstance(step, ins.From) and step.name:
        _check_from(step, reporter)
        _check_description("FROM", (step.name,), step, reporter)
    if isinstance(step, ins.Arg):
        _check_description("ARG", tuple(name for name, _ in step.arguments), step, reporter)


def _check_from(step: ins.From, reporter: Reporter) -> None:
    name, word, keyword = step.written_name, step.written_as, step.writing.keyword
    if name != name.lower():
        reporter.warn("StageNameCasing", step, f"Stage name '{name}' should be lowercase")
    lower, upper = keyword == keyword.lower(), keyword == keyword.upper()
    if (lower and word != word.lower()) or (upper and word != word.upper()):
        reporter.warn("FromAsCasing", step, f"The casing of '{word}' and '{keyword}' does not match")


def _check_description(keyword: str, names: Sequence[str], step: ins.Instruction, reporter: Reporter) -> None:
    comments = step.writing.comments
    if comments and comments[-1].split(" ", 1)[0] not in names:
        name = names[0] if len(names) == 1 else "<arg_key>"
        message = f"A comment for {keyword} should have the format `# {name} <description>`"
        reporter.warn("InvalidDefinitionDescription", step, message)


# --- several instructions -----------------------------------------------------------------------------


def _check_casing(recipe: ins.Recipe, reporter: Reporter) -> None:
    """Those before the first FROM do not count."""
    steps = list(recipe.instructions)
    while steps and not isinstance(steps[0], ins.From):
        del steps[0]
    words = [step.writing.keyword for step in steps]
    lower = sum(word == word.lower() for word in words) > sum(word == word.upper() for word in words)
    for step in steps:
        word = step.writing.keyword
        if word != (word.lower() if lower else word.upper()):
            casing = "lowercase" if lower else "uppercase"
            message = f"'{word}' should match the case of the majority of instructions ({casing})"
            reporter.warn("ConsistentInstructionCasing", step, message)


def _check_stage_names(recipe: ins.Recipe, reporter: Reporter) -> None:
    seen: set[str] = set()
    for step in recipe.instructions:
        if not isinstance(step, ins.From) or not step.name:
            continue
        if step.name in _RESERVED:
            message = f'A stage should not be named as the reserved stage "{step.name}"'
            reporter.warn("ReservedStageName", step, message)
        if step.name in seen:
            message = f'Duplicate stage name "{step.name}": stage names should be unique'
            reporter.warn("DuplicateStageName", step, message)
        seen.add(step.name)
