"""Plans of Dockerfiles: stages, images, named contexts, triggers, the recipe itself and its checks."""

from __future__ import annotations

import pytest

from build_fakes import BASE, Bench, history, of_kind
from hooper.api.build_graph import Copy, GitSource, HttpSource, ImageSource, LocalSource, Run, Scratch
from hooper.api.builder import NamedContext
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.model import ImageConfig


@pytest.fixture
def bench():
    return Bench()


def commands(plan):
    return [run.args[-1] for run in of_kind(plan, Run)]


def context(kind, value=""):
    return NamedContext(kind, value)


# --- stages -------------------------------------------------------------------------------------------


def test_stages_that_nothing_needs_cost_nothing(bench):
    plan = bench.plan("FROM base AS a\nRUN a\nFROM nowhere AS b\nRUN b\nEXPOSE bad\nFROM A\nRUN c")
    assert commands(plan) == ["a", "c"]
    assert [step.stage for step in plan.steps] == ["a", "a", "2", "2"]
    assert bench.services.resolved == [("base", "", False)]
    assert tuple(plan.stages) == ("a", "2")


def test_stages_beside_the_target_are_no_part_of_its_history(bench):
    plan = bench.plan(
        "FROM base AS tools\nRUN make\nFROM base AS lib\nRUN lib\nFROM lib\nCOPY --from=tools /x /x\n"
        "RUN --mount=from=0,target=/t y"
    )
    assert tuple(plan.stages) == ("lib", "2")
    assert history(plan) == [
        "/bin/sh -c lib", "/bin/sh -c #(nop) COPY /x in /x ", "/bin/sh -c y",
    ]  # fmt: skip
    assert [step.stage for step in plan.steps] == ["tools"] * 2 + ["lib"] * 2 + ["2"] * 3
    assert commands(plan) == ["lib", "make", "y"]


@pytest.mark.parametrize(
    ("target", "wanted"), [("", ["a", "b"]), ("A", ["a"]), ("a", ["a"]), ("0", ["a"]), ("1", ["a", "b"])]
)
def test_targets(bench, target, wanted):
    assert commands(bench.plan("FROM base AS a\nRUN a\nFROM a AS b\nRUN b", target=target)) == wanted


@pytest.mark.parametrize("target", ["c", "2", "-1", "99999999999"])
def test_a_target_that_is_not_there(bench, target):
    error = bench.fails("FROM base AS one\nFROM base AS two", target=target)
    assert f"failed to reach build target {target}" in error
    assert "Stages: one, two" in error


def test_the_nearest_target_is_named(bench):
    assert "Did you mean builder?" in bench.fails("FROM base AS builder\nFROM base", target="buildr")


def test_two_stages_of_one_name(bench):
    plan = bench.plan("FROM base AS x\nRUN 1\nFROM x AS x\nRUN 2\nFROM x\nRUN 3")
    assert commands(plan) == ["1", "2", "3"]
    assert tuple(plan.stages) == ("0", "1", "2")
    assert len(history(plan)) == 3


def test_a_stage_may_have_the_name_of_its_image(bench):
    assert bench.plan("FROM base AS base\nRUN x\nFROM BASE\nRUN y").base.reference == "base"


def test_images_are_looked_for_side_by_side_and_once(bench):
    for name in "pqr":
        bench.services.images[name] = ImageConfig()
    bench.plan(
        "FROM p AS a\nFROM q AS b\nFROM p\nCOPY --from=a / /a\nCOPY --from=b / /b\n"
        "COPY --from=r / /r\nCOPY --from=r / /s"
    )
    assert sorted(bench.services.resolved) == [("p", "", False), ("q", "", False), ("r", "", False)]
    assert bench.services.at_once == 3


def test_pull_and_platform_go_with_the_image(bench):
    bench.services.images["tool"] = ImageConfig()
    bench.plan("FROM --platform=$BUILDPLATFORM base\nCOPY --from=tool / /\nRUN x", platform="linux/arm64/v8", pull=True)
    assert sorted(bench.services.resolved) == [("base", "linux/amd64", True), ("tool", "linux/arm64", True)]
    bench.services.resolved.clear()
    bench.plan("ARG p=arm\nFROM --platform=$p base\nRUN x")
    assert bench.services.resolved == [("base", "linux/arm/v7", False)]


def test_arguments_in_from(bench):
    bench.services.images["base:1-x"] = BASE
    plan = bench.plan("ARG V=0\nARG tag=${V}-x\nFROM base:${tag}\nRUN x", build_args={"V": "1"})
    assert plan.base.reference == "base:1-x"


@pytest.mark.parametrize(
    ("platform", "base", "result"),
    [
        ("", ("arm64", "v8"), ("arm64", "v8")),
        ("linux/arm/v6", ("amd64", ""), ("arm", "v6")),
        ("linux/arm64/v8", ("amd64", ""), ("arm64", "")),
    ],
)
def test_the_platform_of_the_result(bench, platform, base, result):
    bench.services.architecture, bench.services.variant = base
    plan = bench.plan("FROM base\nRUN x", platform=platform)
    assert (plan.architecture, plan.variant) == result


def test_scratch_is_for_the_target(bench):
    bench.write({"f": ""})
    plan = bench.plan("FROM --platform=linux/riscv64 scratch\nCOPY f /", platform="linux/arm")
    assert (plan.architecture, plan.variant) == ("arm", "v7")
    assert isinstance(plan.result.base, Scratch)
    assert bench.services.resolved == []


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("FROM base\nCOPY --from=3 a b", 2, "invalid from flag value 3: index out of bounds"),
        ("FROM base\nCOPY --from=0 a b", 2, "No stage is earlier."),
        ("FROM base AS a\nCOPY --from=a /x /y", 2, "circular dependency detected on stage: a"),
        ("FROM base AS a\nRUN --mount=from=A,target=/x y", 2, "circular dependency detected on stage: a"),
        ("FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nCOPY --from=a / /", 2, "circular dependency detected"),
        ("FROM base AS a\nCOPY --from=c / /\nFROM a AS b\nFROM b AS c", 2, "circular dependency detected"),
        (
            "FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nFROM a", 2,
            'cannot copy from stage "b", it needs to be defined before current stage "a"',
        ),
        ("FROM base\nRUN --mount=from=b,target=/x y\nFROM base AS b\nFROM base\nCOPY --from=0 / /", 2, "cannot mount"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied_from(bench, text, line, why):
    error = bench.fails(text)
    assert error.startswith(f"Dockerfile:{line}: ")
    assert why in error


def test_a_mistake_in_an_unused_stage_is_no_matter(bench):
    assert commands(bench.plan("FROM base AS a\nCOPY --from=a /x /y\nFROM base\nRUN x")) == ["x"]


def test_a_missing_image_is_named_with_its_line(bench):
    error = bench.fails("FROM base AS one\nRUN x\nFROM nowhere", NotFound)
    assert error.startswith("Dockerfile:3: No such image: nowhere: it is nowhere\n")
    assert "> 3 | FROM nowhere" in error
    assert "Stages before: one." in error
    error = bench.fails("FROM later\nFROM base AS later", NotFound, target="0")
    assert "The stage later begins in line 2: move it above this one." in error


def test_a_missing_image_that_is_copied_from(bench):
    error = bench.fails("FROM base AS one\nFROM base\nCOPY --from=nowhere /a /a", NotFound)
    assert error.startswith("Dockerfile:3: invalid from flag value nowhere: No such image: nowhere")
    assert "No earlier stage is named nowhere either (there are: one)." in error
    error = bench.fails("FROM base\nRUN --mount=from=nowhere,target=/x y", NotFound)
    assert error.startswith("Dockerfile:2: invalid from flag value nowhere")


def test_one_error_of_several(bench):
    error = bench.fails("FROM no1 AS a\nFROM no2 AS b\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /", NotFound)
    assert error.count("No such image") == 1


# --- triggers -----------------------------------------------------------------------------------------


def test_triggers_of_an_image_come_first_and_are_not_inherited(bench):
    bench.services.images["on"] = ImageConfig(on_build=["RUN t1", "ENV a=1"])
    plan = bench.plan("FROM on\nRUN x")
    assert commands(plan) == ["t1", "x"]
    assert plan.config.on_build is None
    assert [step.shown for step in plan.steps] == ["FROM on", "ONBUILD RUN t1", "ONBUILD ENV a=1", "RUN x"]
    assert {step.origin.first for step in plan.steps[:3]} == {1}
    assert "a=1" in of_kind(plan, Run)[1].env


def test_triggers_of_a_stage(bench):
    plan = bench.plan("FROM base AS a\nONBUILD RUN t\nRUN a\nFROM a AS b\nRUN b\nFROM b\nRUN c")
    assert commands(plan) == ["a", "t", "b", "c"]
    assert plan.config.on_build is None
    assert bench.plan("FROM base AS a\nONBUILD RUN t").config.on_build == ["RUN t"]


def test_triggers_that_copy(bench):
    bench.services.images |= {
        "on": ImageConfig(on_build=["COPY --from=helper /x /x", "RUN --mount=from=tool,target=/t y"]),
        "tool": ImageConfig(on_build=["RUN not"]),
        "other": ImageConfig(on_build=["COPY --from=tool / /"]),
    }
    plan = bench.plan("FROM other AS helper\nRUN h\nFROM base AS unused\nRUN u\nFROM on\nRUN z")
    assert commands(plan) == ["h", "y", "z"]
    assert sorted(name for name, _, _ in bench.services.resolved) == ["on", "other", "tool"]
    copy = of_kind(plan, Copy)[-1]
    assert copy.sources[0].shown == "stage helper"


def test_a_trigger_of_a_heredoc(bench):
    plan = bench.plan("FROM base AS a\nONBUILD COPY <<f /x/\n$PATH\nf\nFROM a")
    assert of_kind(plan, Copy)[0].sources[0].node.files[0].data == b"/bin\n"


def test_a_wrong_trigger_is_the_fault_of_from(bench):
    bench.services.images["on"] = ImageConfig(on_build=["RNU x"])
    error = bench.fails("# c\nFROM on")
    assert error.startswith("Dockerfile:2: ")
    assert "unknown instruction: RNU" in error
    bench.services.images["on"] = ImageConfig(on_build=["COPY --from=nowhere a b"])
    assert bench.fails("# c\nFROM on", NotFound).startswith("Dockerfile:2: invalid from flag value nowhere")


# --- named contexts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "node"),
    [
        ("local", "", LocalSource(context="ctx")),
        ("url", "https://h/a/b.tar?x", HttpSource(url="https://h/a/b.tar?x", filename="context")),
        ("git", "https://h/a.git#v1:sub", GitSource(remote="https://h/a.git", ref="v1", subdirectory="sub")),
        ("git", "github.com/a/b", GitSource(remote="https://github.com/a/b")),
        ("url", "https://h/a.git?keep-git-dir", GitSource(remote="https://h/a.git", keep_git_dir=True)),
    ],
)
def test_trees_that_are_copied_from(bench, kind, value, node):
    bench.services.files["ctx"] = {}
    copy = bench.plan("FROM base\nCOPY --from=ctx /x /y", contexts={"ctx": context(kind, value)}).result
    (source,) = copy.sources
    assert type(source.node) is type(node)
    for field in set(node.__struct_fields__) - {"name", "origin"}:
        assert getattr(source.node, field) == getattr(node, field)
    assert (source.paths, source.shown, copy.keep_owner) == (("x",), "context ctx", False)


def test_a_git_context_keeps_its_directory_if_told(bench):
    arguments = {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}
    contexts = {"ctx": context("git", "https://h/a.git"), "no": context("git", "https://h/b.git?keep-git-dir=false")}
    plan = bench.plan("FROM base\nCOPY --from=ctx . /y\nCOPY --from=no . /z", contexts=contexts, build_args=arguments)
    assert [node.keep_git_dir for node in of_kind(plan, GitSource)] == [True, False]


@pytest.mark.parametrize("name", ["tool", "docker.io/library/tool:latest", "tool:latest", "tool::linux/amd64"])
def test_an_image_is_replaced_by_an_image(bench, name):
    bench.services.images["mine:1"] = ImageConfig(env=["own=1"])
    plan = bench.plan("FROM tool\nRUN x", contexts={name: context("image", "mine:1")})
    assert plan.base.reference == "mine:1"
    assert "own=1" in plan.config.env
    assert bench.services.resolved == [("mine:1", "", False)]


def test_an_image_for_another_platform_is_not_replaced(bench):
    bench.services.images["mine"] = ImageConfig()
    contexts = {"base::linux/arm64": context("image", "mine")}
    assert bench.plan("FROM base\nRUN x", contexts=contexts).base.reference == "base"
    assert bench.plan("FROM base\nRUN x", contexts=contexts, platform="linux/arm64/v8").base.reference == "mine"


def test_a_layout(bench):
    bench.services.images["layout"] = ImageConfig(env=["l=1"])
    plan = bench.plan("FROM it\nCOPY --from=it /a /b", contexts={"it": context("oci-layout", "layout")})
    assert isinstance(plan.base, ImageSource)
    assert plan.result.keep_owner
    assert set(bench.services.layouts) == {"it"}


def test_a_stage_is_replaced(bench):
    bench.services.images["mine"] = ImageConfig(env=["own=1"], on_build=["RUN trigger"])
    text = "FROM nowhere AS Build\nRUN never\nFROM build\nRUN x\nCOPY --from=build /a /b"
    plan = bench.plan(text, contexts={"build": context("image", "mine")})
    assert commands(plan) == ["trigger", "x"]
    assert plan.result.sources[0].node.reference == "mine"
    assert plan.result.keep_owner
    assert [step.shown for step in plan.steps][:2] == ["FROM nowhere AS Build", "FROM build"]
    plan = bench.plan(text, contexts={"build": context("image", "mine")}, target="build")
    assert plan.config == bench.services.images["mine"]


def test_a_stage_begins_with_a_tree(bench):
    bench.services.files["tree"] = {}
    plan = bench.plan("FROM tree\nRUN x", contexts={"tree": context("local")})
    (copy,) = of_kind(plan, Copy)
    assert (copy.destination, copy.sources[0].node.context, copy.sources[0].paths) == ("/", "tree", ("",))
    assert isinstance(copy.base, Scratch)
    assert plan.base is None
    assert history(plan) == ["/bin/sh -c x"]


def test_an_image_is_replaced_by_scratch(bench):
    plan = bench.plan("FROM tool\nRUN x", contexts={"tool": context("image", "scratch")})
    assert isinstance(of_kind(plan, Run)[0].base, Scratch)


@pytest.mark.parametrize("name", ["scratch", "context"])
def test_reserved_names_are_not_replaced(bench, name):
    plan = bench.plan("FROM scratch\nCOPY a /", contexts={name: context("image", "nowhere")})
    assert bench.services.resolved == []
    assert isinstance(plan.result, Copy)


def test_a_local_context_has_its_own_ignore_file(bench):
    bench.write({".dockerignore": "# c\n*.o\n"}, "ctx")
    bench.services.files["other"] = {}
    contexts = {"ctx": context("local"), "other": context("local")}
    bench.plan("FROM base\nCOPY --from=ctx a /", contexts=contexts)
    assert bench.services.ignored == {"ctx": (["*.o"], ".dockerignore")}


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("git", "https://h/x", "is no git URL"),
        ("odd", "x", 'there is no kind "odd"'),
        ("image", "nowhere", "No such image"),
    ],
)
def test_a_wrong_context_is_told_where_it_is_used(bench, kind, value, why):
    kind_of_error = NotFound if kind == "image" else InvalidArgument
    error = bench.fails("FROM base\nCOPY --from=c a b", kind_of_error, contexts={"c": context(kind, value)})
    assert error.startswith("Dockerfile:2: ")
    assert why in error


# --- the recipe ---------------------------------------------------------------------------------------


def test_where_the_recipe_is(bench):
    bench.write({"dockerfile": "FROM base\nRUN lower", "sub/other": "FROM base\nRUN other"})
    bench.services.files[""].pop("Dockerfile", None)
    assert commands(plan_as_it_is(bench)) == ["lower"]
    assert commands(plan_as_it_is(bench, recipe="Dockerfile")) == ["lower"]
    assert commands(plan_as_it_is(bench, recipe="sub/other")) == ["other"]
    with pytest.raises(NotFound) as caught:
        plan_as_it_is(bench, recipe="nope")
    assert str(caught.value).splitlines()[0] == "Cannot locate specified Dockerfile: nope"
    with pytest.raises(InvalidArgument, match="outside the build context"):
        plan_as_it_is(bench, recipe="../secret")
    bench.services.files.clear()
    with pytest.raises(InvalidArgument, match="there is no build context"):
        plan_as_it_is(bench)


def plan_as_it_is(bench, **request):
    import anyio

    from hooper.api.builder import BuildRequest
    from hooper_builder_dockerfile.builder import DockerfileBuilder

    return anyio.run(DockerfileBuilder(None).plan, BuildRequest(**request), bench.services)


def test_errors_name_the_recipe(bench):
    bench.write({"sub/my.Dockerfile": "FROM base\nRNU x"})
    assert bench.fails("", recipe="sub/my.Dockerfile").startswith("sub/my.Dockerfile:2: ")


@pytest.mark.parametrize(
    ("files", "recipe", "ignored"),
    [
        ({}, "", {}),
        ({".dockerignore": "a\n!b/\n\n#c\n /d"}, "", {"": (["a", "!b", "d"], ".dockerignore")}),
        ({".dockerignore": "a", "Dockerfile.dockerignore": "b"}, "", {"": (["b"], "Dockerfile.dockerignore")}),
        ({".dockerignore": "a", "Dockerfile.dockerignore": ""}, "", {"": ([], "Dockerfile.dockerignore")}),
        ({".dockerignore": "a", "x/D": "FROM base", "x/D.dockerignore": "b"}, "x/D", {"": (["b"], "x/D.dockerignore")}),
    ],
)
def test_ignore_files(bench, files, recipe, ignored):
    bench.write(files)
    bench.plan("FROM base", recipe=recipe)
    assert bench.services.ignored == ignored


@pytest.mark.parametrize(("content", "why"), [("a\n!", ".dockerignore:2"), (b"\xff", "not UTF-8"), ("a[", "a[")])
def test_a_wrong_ignore_file(bench, content, why):
    bench.write({".dockerignore": content})
    assert why in bench.fails("FROM base")


# --- checks -------------------------------------------------------------------------------------------


def rules(warnings):
    return [warning.rule for warning in warnings]


def test_warnings_are_part_of_the_plan(bench):
    plan = bench.plan("FROM base AS X\nWORKDIR a\nRUN echo $no\nCMD x")
    assert rules(plan.warnings) == ["StageNameCasing", "WorkdirRelativePath", "JSONArgsRecommended"]
    assert plan.warnings[1].origin.first == 2


def test_warnings_follow_images_and_arguments(bench):
    text = "ARG V\nFROM base AS used\nENV a=$PATH b=$own c=$nosuch\nFROM base AS unused\nMAINTAINER x\nFROM used"
    bench.services.images["base"] = ImageConfig(env=["PATH=/bin", "own=1"])
    assert rules(bench.plan(text).warnings) == ["UndefinedVar", "MaintainerDeprecated"]


def test_ignored_sources_are_warned_of(bench):
    bench.write({".dockerignore": "secret\n"})
    assert rules(bench.plan("FROM base\nCOPY secret a /x/").warnings) == ["CopyIgnoredFile"]
    bench.write({".dockerignore": "*\n!secret\n"})
    assert rules(bench.plan("FROM base\nCOPY secret a /x/").warnings) == []


def test_warnings_can_be_errors(bench):
    text = "# check=error=true\nFROM base AS X\nRUN x"
    assert "lint violation found for rules: StageNameCasing" in bench.fails(text)
    assert commands(bench.plan(text, build_args={"BUILDKIT_DOCKERFILE_CHECK": "skip=all"})) == ["x"]


def test_a_check_does_without_images(bench):
    warnings = bench.check("FROM nowhere AS X\nRUN x\nFROM base\nMAINTAINER y\nEXPOSE $p")
    assert rules(warnings) == ["StageNameCasing", "MaintainerDeprecated"]


def test_a_check_finds_the_mistakes_of_all_stages(bench):
    with pytest.raises(InvalidArgument, match="Dockerfile:2: invalid containerPort"):
        bench.check("FROM base AS a\nEXPOSE no\nFROM base")
    assert rules(bench.check("FROM base AS a\nMAINTAINER x\nFROM base", target="1")) == ["MaintainerDeprecated"]
    with pytest.raises(InvalidArgument, match="circular"):
        bench.check("FROM base AS a\nCOPY --from=a / /\nFROM base")


def test_a_check_sees_what_triggers_need(bench):
    bench.services.images["on"] = ImageConfig(on_build=["COPY --from=tool a b"])
    assert bench.check("FROM on") == []
    assert ("tool", "", False) in bench.services.resolved
