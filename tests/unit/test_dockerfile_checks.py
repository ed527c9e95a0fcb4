"""The checks: for each rule what it warns of, and what looks alike and is fine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.manifests import host_architecture
from hooper_builder_dockerfile.check_rules import EXPERIMENTAL, RULES, CheckOptions, page_of
from hooper_builder_dockerfile.check_stages import Base, Known
from hooper_builder_dockerfile.checks import check, refusal
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.parser import parse

PLATFORM = {"TARGETPLATFORM": "linux/amd64", "BUILDPLATFORM": "linux/amd64", "TARGETARCH": "amd64"}


def found(text, **known):
    """(rule, line, message) of each warning."""
    warnings = check(parse(text, "D"), Known(**known))
    return [(warning.rule, warning.origin.first, warning.message) for warning in warnings]


BAD = [
    ("StageNameCasing", "FROM scratch AS Base", 1, "'Base'"),
    ("FromAsCasing", "FROM scratch as base", 1, "'as' and 'FROM'"),
    ("FromAsCasing", "from scratch AS base", 1, "'AS' and 'from'"),
    ("FromAsCasing", "FROM scratch As base", 1, "'As' and 'FROM'"),
    ("NoEmptyContinuation", "FROM scratch\nCOPY a \\\n\n  b", 3, "Empty continuation"),
    ("ConsistentInstructionCasing", "FROM scratch\ncopy a /b\nCOPY c /d", 2, "'copy' should match"),
    ("ConsistentInstructionCasing", "FROM scratch\nCopy a /b", 2, "(uppercase)"),
    ("ConsistentInstructionCasing", "from scratch\ncopy a /b\nCOPY c /d", 3, "(lowercase)"),
    ("DuplicateStageName", "FROM scratch AS b\nFROM scratch AS b", 2, '"b"'),
    ("ReservedStageName", "FROM scratch AS scratch", 1, '"scratch"'),
    ("ReservedStageName", "FROM scratch AS context", 1, '"context"'),
    ("JSONArgsRecommended", "FROM scratch\nCMD a b", 2, "for CMD"),
    ("JSONArgsRecommended", "FROM scratch\nENTRYPOINT a b", 2, "for ENTRYPOINT"),
    ("MaintainerDeprecated", "FROM scratch\nMAINTAINER me", 2, "LABEL"),
    (
        "UndefinedArgInFrom",
        "ARG VERSION=1\nFROM a:${VERSOIN:-1}",
        2,
        "'VERSOIN' is not declared (did you mean VERSION?)",
    ),
    ("UndefinedArgInFrom", "FROM --platform=$BULDPLATFORM scratch", 1, "(did you mean BUILDPLATFORM?)"),
    ("UndefinedArgInFrom", "FROM --platform=$zzzzzz scratch", 1, "'zzzzzz' is not declared"),
    ("UndefinedVar", "FROM scratch\nCOPY $foo /b", 2, "'$foo'"),
    (
        "UndefinedVar",
        "FROM scratch\nARG DIR_ASSETS=a\nCOPY $DIR_ASSET /b",
        3,
        "'$DIR_ASSET' (did you mean $DIR_ASSETS?)",
    ),
    ("UndefinedVar", "FROM scratch\nENV PATH=$PAHT:/x", 2, "(did you mean $PATH?)"),
    ("UndefinedVar", "FROM unknown\nENV PATH=$PAHT:/x", 2, "(did you mean $PATH?)"),
    ("UndefinedVar", "FROM scratch\nENV a=1 b=$a", 2, "'$a'"),
    ("UndefinedVar", "FROM scratch\nARG a=$b", 2, "'$b'"),
    ("UndefinedVar", "FROM scratch\nCOPY <<E /x\n$foo\nE", 2, "'$foo'"),
    ("UndefinedVar", "FROM scratch\nRUN --mount=type=cache,target=/c/$foo x", 2, "'$foo'"),
    ("UndefinedVar", "FROM scratch\nLABEL a=$foo", 2, "'$foo'"),
    ("UndefinedVar", "FROM scratch\nUSER $foo", 2, "'$foo'"),
    ("UndefinedVar", "FROM scratch\nVOLUME /$foo", 2, "'$foo'"),
    ("UndefinedVar", "FROM scratch\nSTOPSIGNAL $foo", 2, "'$foo'"),
    ("UndefinedVar", "ARG foo=1\nFROM scratch\nCOPY $foo /b", 3, "'$foo'"),
    ("WorkdirRelativePath", "FROM scratch\nWORKDIR app", 2, '"app"'),
    ("MultipleInstructionsDisallowed", 'FROM scratch\nCMD ["a"]\nCMD ["b"]', 2, "Multiple CMD"),
    ("MultipleInstructionsDisallowed", 'FROM scratch\nENTRYPOINT ["a"]\nENTRYPOINT ["b"]', 2, "Multiple ENTRYPOINT"),
    ("MultipleInstructionsDisallowed", "FROM scratch\nHEALTHCHECK NONE\nHEALTHCHECK NONE", 2, "Multiple HEALTHCHECK"),
    ("LegacyKeyValueFormat", "FROM scratch\nENV a b", 2, '"ENV key=value"'),
    ("LegacyKeyValueFormat", "FROM scratch\nLABEL a b", 2, '"LABEL key=value"'),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM scratch", 1, "$TARGETPLATFORM"),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} scratch", 1, "${TARGETPLATFORM}"),
    ("SecretsUsedInArgOrEnv", "FROM scratch\nARG db_password", 2, '(ARG "db_password")'),
    ("SecretsUsedInArgOrEnv", "FROM scratch\nENV GITHUB_Token=x", 2, '(ENV "GITHUB_Token")'),
    ("SecretsUsedInArgOrEnv", "FROM scratch\nENV a=1 APIKEY=x", 2, '(ENV "APIKEY")'),
    ("InvalidDefaultArgInFrom", "ARG TAG\nFROM a:$TAG", 2, "a:$TAG"),
    ("InvalidDefaultArgInFrom", "ARG IMAGE\nFROM $IMAGE", 2, "$IMAGE"),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 scratch", 1, '"linux/amd64"'),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=arm64 scratch AS amd", 1, '"arm64"'),
    ("ExposeProtoCasing", "FROM scratch\nEXPOSE 80/TcP", 2, "'80/TcP'"),
    ("ExposeInvalidFormat", "FROM scratch\nEXPOSE 5000:5000", 2, "'5000:5000'"),
    ("ExposeInvalidFormat", "FROM scratch\nEXPOSE [::1]:80:80", 2, "'[::1]:80:80'"),
]


@pytest.mark.parametrize(("rule", "text", "line", "words"), BAD)
def test_a_doubtful_place_is_shown(rule, text, line, words):
    (warning,) = found(text, predefined=PLATFORM, build_args={"TAG": "1", "IMAGE": "x"})
    assert warning[:2] == (rule, line)
    assert words in warning[2]


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch AS base\nFROM base AS other",
        "from scratch as base\ncopy a /b",
        "FROM x\n# check=skip=ConsistentInstructionCasing\nFrom scratch AS base\nUSER u",
        "FROM scratch\nCOPY a \\\n # c\n  b",
        "arg a\nFROM scratch\nCOPY a /b",
        "FROM scratch\nRUN <<E\nrun copy\nE",
        'FROM scratch\nCMD ["a"]\nENTRYPOINT ["b"]',
        'FROM scratch\nSHELL ["/bin/bash", "-c"]\nCMD a b',
        "ARG V=1\nFROM a:$V",
        "ARG V\nFROM a:${V:-1}",
        "ARG V\nFROM a:v$V",
        "FROM --platform=$BUILDPLATFORM scratch",
        "FROM --platform=linux/$TARGETARCH scratch",
        "FROM --platform=linux/amd64 scratch AS my-amd64",
        "FROM --platform=linux/amd64 scratch AS linux",
        "FROM scratch\nARG foo\nCOPY $foo /b",
        "FROM scratch\nARG foo=1 bar=$foo\nCOPY a$foo /b",
        "FROM scratch\nENV foo=1\nENV bar=$foo",
        "FROM scratch\nENV PATH=$PATH:/x",
        "FROM scratch AS a\nARG foo=1\nFROM a\nCOPY $foo /b",
        "FROM unknown\nENV a=$JAVA_HOME/x b=$GOPATH/bin c=$CPATH",
        "FROM scratch AS a-linux\nFROM a-$TARGETOS",
        "FROM scratch\nRUN echo $foo ${bar}",
        "FROM scratch\nCMD [\"$foo\"]",
        "FROM scratch\nCOPY \\$foo '$foo' /b",
        "FROM scratch\nCOPY <<'E' /x\n$foo\nE",
        "FROM scratch\nWORKDIR /app\nWORKDIR sub",
        "FROM scratch AS a\nWORKDIR /app\nFROM a\nWORKDIR sub",
        'FROM scratch AS a\nCMD ["a"]\nFROM a\nCMD ["b"]',
        "FROM scratch\nENV a=b\nLABEL c=d",
        "FROM scratch\nARG PUBLIC_KEY\nENV TOKEN_FILE=x AUTH_VERSION=1 monkey=1 keyboard=2",
        "FROM scratch\nEXPOSE 80/tcp 90-92",
        "# any\nARG a=1\n# thing\nFROM scratch AS b",
        "FROM scratch\nCOPY ignored /b",
        "FROM scratch\nENV a=${broken",
    ],
)  # fmt: skip
def test_what_looks_alike_is_fine(text):
    assert found(text, predefined=PLATFORM) == []


def test_every_rule_has_a_row():
    others = {"InvalidBaseImagePlatform", "CopyIgnoredFile", "InvalidDefinitionDescription"}
    assert {row[0] for row in BAD} | others == set(RULES)


# --- what needs more than the text --------------------------------------------------------------------


def test_the_variables_of_a_known_base():
    text = "FROM java:$V\nENV a=$JAVA_HOME b=$JAVA_HOM c=$zzzz"
    known = {"build_args": {"V": "1"}, "bases": {"java:1": Base(env={"JAVA_HOME": "/j"})}}
    assert [message for _, _, message in found(f"ARG V=0\n{text}", **known)] == [
        "Usage of undefined variable '$JAVA_HOM' (did you mean $JAVA_HOME?)",
        "Usage of undefined variable '$zzzz'",
    ]


def test_the_shell_of_a_known_base():
    assert found("FROM x\nCMD a b", bases={"x": Base(has_shell=True)}) == []


@pytest.mark.parametrize(
    ("flag", "wanted", "actual", "warns"),
    [
        ("", "linux/arm64", "linux/amd64", True),
        ("", "linux/amd64", "linux/amd64", False),
        ("", "linux/arm64/v8", "linux/arm64", False),
        ("--platform=$BUILDPLATFORM ", "linux/arm64", "linux/amd64", False),
        ("", "", "linux/amd64", False),
        ("", "linux/amd64", "", False),
    ],
)
def test_the_platform_of_a_known_base(flag, wanted, actual, warns):
    known = {"platform": wanted, "bases": {"x": Base(platform=actual)}, "predefined": PLATFORM}
    rules = [rule for rule, _, _ in found(f"FROM {flag}x", **known)]
    assert rules == (["InvalidBaseImagePlatform"] if warns else [])


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("COPY a /d", ["a"]),
        ("ADD ./a/../a b /d", ["a"]),
        ("ENV x=a\nCOPY $x /d", ["a"]),
        ("COPY /a /d", ["a"]),
        ("COPY b /d", []),
        ("COPY . /d", []),
        ("COPY --from=s a /d", []),
        ("ADD https://h/a git@h:a /d", []),
        ("COPY <<a /d\na", []),
    ],
)
def test_files_that_the_ignore_file_leaves_out(text, paths):
    warnings = found(f"FROM scratch\n{text}", ignored=lambda path: path == "a")
    assert [rule for rule, _, _ in warnings] == ["CopyIgnoredFile"] * len(paths)
    assert all(f'"{path}"' in message for path, (_, _, message) in zip(paths, warnings, strict=True))


def test_stages_that_are_not_needed_are_not_followed():
    text = "FROM scratch AS a\nCOPY $x /b\nFROM scratch AS b\nCOPY $y /b\nMAINTAINER me"
    assert [rule for rule, _, _ in found(text, stages={0})] == ["UndefinedVar", "MaintainerDeprecated"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# foo is it\nARG foo=1\n# base is it\nFROM scratch AS base\n# b is it\nARG a b", []),
        ("# bar is it\nARG foo=1\n# other is it\nFROM scratch AS base\n# c is it\nARG a b", [3, 5, 7]),
        ("# far\n\nARG foo=1\n# far\n#\nFROM scratch AS base\n# far\nCOPY a /b", []),
        ("# first\n# foo is it\nARG foo=1\n# x\nFROM scratch", []),
    ],
)
def test_descriptions_are_checked_when_asked_for(text, lines):
    rules = found(f"# check=experimental=all\n{text}")
    assert [(rule, line) for rule, line, _ in rules] == [("InvalidDefinitionDescription", line) for line in lines]
    assert found(text) == []


# --- options ------------------------------------------------------------------------------------------

TEXT = "FROM scratch as b\nENV a b\nMAINTAINER me"


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ("skip=FromAsCasing", ["LegacyKeyValueFormat", "MaintainerDeprecated"]),
        ("skip=FromAsCasing, MaintainerDeprecated", ["LegacyKeyValueFormat", "MaintainerDeprecated"]),
        ("skip=FromAsCasing,MaintainerDeprecated;error=true", ["LegacyKeyValueFormat"]),
        ("skip=all", []),
        ("error=true", ["FromAsCasing", "LegacyKeyValueFormat", "MaintainerDeprecated"]),
        ("skip=Unknown", ["FromAsCasing", "LegacyKeyValueFormat", "MaintainerDeprecated"]),
        ("error=false;skip=LegacyKeyValueFormat", ["FromAsCasing", "MaintainerDeprecated"]),
    ],
)
def test_the_directive_leaves_rules_out(options, rules):
    assert [rule for rule, _, _ in found(f"# check={options}\n{TEXT}")] == rules


def test_a_comment_leaves_rules_out_for_one_instruction():
    text = "# check=skip=LegacyKeyValueFormat // why\nENV a b\nENV c d\n# check=skip=all\nENV e f\n# check=bad\nENV g h"
    assert [line for _, line, _ in found(f"FROM scratch\n{text}")] == [4, 8]


def test_a_build_argument_replaces_the_directive():
    override = {"BUILDKIT_DOCKERFILE_CHECK": "skip=FromAsCasing"}
    rules = [rule for rule, _, _ in found(f"# check=skip=all\n{TEXT}", build_args=override)]
    assert rules == ["LegacyKeyValueFormat", "MaintainerDeprecated"]


@pytest.mark.parametrize("options", ["skip", "skipp=all", "error=maybe", "skip=all;x", "all"])
def test_bad_options_are_an_error(options):
    with pytest.raises(Fault):
        CheckOptions.of(options)
    with pytest.raises(InvalidArgument) as caught:
        found(f"# syntax=a\n# check={options}\nFROM x")
    assert caught.value.what == "D:2"
    assert caught.value.remedy


def test_a_build_that_must_have_no_warnings_is_refused():
    recipe = parse(f"# check=error=true;skip=FromAsCasing\n{TEXT}", "D")
    error = refusal(recipe, check(recipe), {})
    assert error is not None
    assert "lint violation found for rules: LegacyKeyValueFormat, MaintainerDeprecated" in str(error)
    assert refusal(recipe, [], {}) is None
    assert refusal(recipe, check(recipe), {"BUILDKIT_DOCKERFILE_CHECK": "skip=Nothing"}) is None


def test_every_rule_has_its_page():
    (warning,) = check(parse("FROM scratch\nMAINTAINER me"))
    assert warning.url == "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/"
    assert page_of("JSONArgsRecommended").endswith("/json-args-recommended/")
    assert page_of("InvalidBaseImagePlatform") == ""
    assert set(EXPERIMENTAL) <= set(RULES)


def test_warnings_are_in_the_order_of_the_file():
    lines = [line for _, line, _ in found("FROM scratch as A\nENV a b\nfrom scratch as A\nMAINTAINER x\nCMD a")]
    assert lines == sorted(lines)
    assert len(lines) > 5


def test_every_rule_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "dockerfile.md").read_text().partition("## Checks")[2]
    assert re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE) == list(RULES)


def test_each_of_many_unknown_names_is_told_though_not_each_with_a_hint():
    text = "FROM scratch\nENV NAME=1\n" + "LABEL a=$NAMF\n" * 1000
    messages = [message for rule, _, message in found(text) if rule == "UndefinedVar"]
    assert len(messages) == 1000 and messages[0] == "Usage of undefined variable '$NAMF' (did you mean $NAME?)"
    assert messages[-1] == "Usage of undefined variable '$NAMF'"


def test_a_system_alone_is_of_this_hosts_machine():
    known = {"predefined": PLATFORM, "bases": {"x": Base(platform=f"linux/{host_architecture()}")}}
    rules = [rule for rule, _, _ in found("FROM --platform=linux x", **known)]
    assert rules == ["FromPlatformFlagConstDisallowed"]
