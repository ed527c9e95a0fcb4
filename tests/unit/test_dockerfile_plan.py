"""Plans of Dockerfiles: configuration, history, arguments, commands. Services are in memory."""

from __future__ import annotations

import msgspec
import pytest

from build_fakes import BASE, Bench, history, of_kind
from hooper.api.build_graph import (
    BindMount,
    CacheMount,
    ImageSource,
    InlineSource,
    LocalSource,
    MakeDirectory,
    Run,
    Scratch,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from hooper.api.errors import Forbidden, InvalidArgument
from hooper.api.model import Healthcheck, ImageConfig

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def bench():
    return Bench()


def runs(plan):
    return of_kind(plan, Run)


def variables(run):
    return set(run.env) - {"PATH=/bin"}


# --- history and steps --------------------------------------------------------------------------------


def test_history_is_as_docker_writes_it(bench):
    bench.write({"f": "x"})
    plan = bench.plan(
        "FROM base\nENV a=b c=\"d e\"\nENV x y  z $a\nLABEL l=$a\nRUN echo hi\nWORKDIR x/$a\nEXPOSE 80-82 53/udp\n"
        "ONBUILD RUN echo x\nCMD echo $a\nVOLUME /v $a\nSHELL [\"/bin/sh\",\"-ec\"]\nSTOPSIGNAL 9\n"
        "ENTRYPOINT [\"a\"]\nCOPY f /x/\nARG foo=${a}ar\nARG bar\nRUN echo $foo $bar\nUSER $a\n",
        build_args={"bar": "q r"}, labels={"zz": "$1'"},
    )  # fmt: skip
    assert history(plan) == [
        "/bin/sh -c #(nop)  ENV a=b c=d e",
        "/bin/sh -c #(nop)  ENV x=y  z b",
        "/bin/sh -c #(nop)  LABEL l=b",
        "/bin/sh -c echo hi",
        "/bin/sh -c #(nop) WORKDIR /w/x/b",
        "/bin/sh -c #(nop)  EXPOSE 53/udp 80-82",
        "/bin/sh -c #(nop)  ONBUILD RUN echo x",
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "echo $a"]',
        "/bin/sh -c #(nop)  VOLUME [/v b]",
        "/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]",
        "/bin/sh -ec #(nop)  STOPSIGNAL 9",
        '/bin/sh -ec #(nop)  ENTRYPOINT ["a"]',
        "/bin/sh -ec #(nop) COPY f in /x/ ",
        "/bin/sh -ec #(nop)  ARG foo=bar",
        "/bin/sh -ec #(nop)  ARG bar",
        "|2 bar=q r foo=bar /bin/sh -ec echo $foo $bar",
        "/bin/sh -ec #(nop)  USER b",
        "/bin/sh -ec #(nop)  LABEL zz=$1'",
    ]
    assert [step.shown.split()[0] for step in plan.steps if step.node is not None] == [
        "FROM", "RUN", "WORKDIR", "COPY", "RUN",
    ]  # fmt: skip
    config = plan.config
    assert config.env == ["PATH=/bin", "a=b", "c=d e", "x=y  z b"]
    assert config.labels == {"l": "b", "zz": "$1'"}
    assert list(config.exposed_ports) == ["53/udp", "80/tcp", "81/tcp", "82/tcp"]
    assert config.on_build == ["RUN echo x"]
    assert (config.working_dir, config.user, config.stop_signal) == ("/w/x/b", "b", "9")
    assert list(config.volumes) == ["/v", "b"]


def test_each_step_knows_its_stage_and_place(bench):
    plan = bench.plan("ARG x=1\nFROM base AS one\nRUN a\n\nFROM one\nENV \\\n  a=b\nRUN b")
    assert [(step.stage, step.shown, step.origin.first, step.origin.last) for step in plan.steps] == [
        ("", "ARG x=1", 1, 1),
        ("one", "FROM base AS one", 2, 2),
        ("one", "RUN a", 3, 3),
        ("1", "FROM one", 5, 5),
        ("1", "ENV a=b", 6, 7),
        ("1", "RUN b", 8, 8),
    ]
    assert tuple(plan.stages) == ("one", "1")
    assert plan.steps[4].origin.text == "ENV \\\n  a=b"
    assert plan.result is plan.steps[-1].node
    assert plan.steps[3].node is plan.steps[2].node
    assert plan.steps[1].node is plan.base


def test_nodes_are_called_as_people_are_shown_them(bench):
    bench.services.images["on"] = ImageConfig(on_build=["RUN t"])
    lone = bench.plan("FROM base\nENV a=b\nRUN make\nWORKDIR /\nCOPY . /x/")
    assert [node.name for node in (lone.base, *runs(lone), lone.result)] == [
        "[1/4] FROM base", "[2/4] RUN make", "[4/4] COPY . /x/",
    ]  # fmt: skip
    several = bench.plan("FROM on AS first\nRUN a\nFROM scratch\nCOPY --from=first / /")
    assert [node.name for node in runs(several)] == ["[first 2/3] ONBUILD RUN t", "[first 3/3] RUN a"]
    assert several.result.name == "[stage-1 1/1] COPY --from=first / /"
    many = bench.plan("FROM base\n" + "RUN x\n" * 11)
    assert [node.name for node in runs(many)][:2] == ["[ 2/12] RUN x", "[ 3/12] RUN x"]


def test_a_recipe_of_from_alone_is_its_base(bench):
    plan = bench.plan("FROM base")
    assert plan.config == BASE
    assert isinstance(plan.result, ImageSource)
    assert plan.result is plan.base
    assert history(plan) == []


def test_scratch_alone_is_no_image(bench):
    assert "no image was generated" in bench.fails("FROM scratch")
    plan = bench.plan('FROM scratch\nCMD ["x"]')
    assert isinstance(plan.result, Scratch)
    assert plan.base is None
    assert plan.config == ImageConfig(env=[DEFAULT_PATH], cmd=["x"])
    assert plan.architecture == "amd64"


def test_the_syntax_directive_changes_nothing(bench):
    plan = bench.plan("# syntax=docker/dockerfile:99-nowhere\nFROM base\nRUN a", build_args={"BUILDKIT_SYNTAX": "x"})
    assert len(runs(plan)) == 1
    assert plan.notes == []


def test_escape_directive(bench):
    plan = bench.plan("# escape=`\nFROM base\nENV a=`$x b=\\\nONBUILD ENV q=1\nFROM base")
    assert plan.config == BASE
    plan = bench.plan("# escape=`\nFROM base\nENV a=`$x\nWORKDIR c:\\x\n")
    assert plan.config.env == ["PATH=/bin", "a=$x"]
    assert plan.config.working_dir == "/w/c:\\x"


# --- configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("ENV a=1\nENV a=2", "env", ["PATH=/bin", "a=2"]),
        ("ENV a=1\nENV a=2 b=$a", "env", ["PATH=/bin", "a=2", "b=1"]),
        ("ENV PATH=/x:$PATH", "env", ["PATH=/x:/bin"]),
        ("ENV a=${n:-d} b=${PATH:+p}", "env", ["PATH=/bin", "a=d", "b=p"]),
        ("LABEL a=1 b='x y'\nLABEL a=2", "labels", {"a": "2", "b": "x y"}),
        ("EXPOSE 80 80/udp 90-91/TCP", "exposed_ports", {"80/tcp": {}, "80/udp": {}, "90/tcp": {}, "91/tcp": {}}),
        ("ENV p='1 2'\nEXPOSE $p", "exposed_ports", {"1/tcp": {}, "2/tcp": {}}),
        ('VOLUME ["/a b", "/c"]', "volumes", {"/a b": {}, "/c": {}}),
        ("USER u:g", "user", "u:g"),
        ("WORKDIR a\nWORKDIR b/../c", "working_dir", "/w/a/c"),
        ("WORKDIR /a\nWORKDIR ..", "working_dir", "/"),
        ("STOPSIGNAL SIGRTMIN+3", "stop_signal", "SIGRTMIN+3"),
        ("ENV s=term\nSTOPSIGNAL $s", "stop_signal", "term"),
        ("CMD a b", "cmd", ["/bin/sh", "-c", "a b"]),
        ('SHELL ["x", "-y"]\nCMD a', "cmd", ["x", "-y", "a"]),
        ('SHELL ["x", "-y"]', "shell", ["x", "-y"]),
        ('CMD ["a", "$b"]', "cmd", ["a", "$b"]),
        ("CMD []", "cmd", []),
        ('ENTRYPOINT ["e"]', "cmd", None),
        ('CMD ["c"]\nENTRYPOINT ["e"]', "cmd", ["c"]),
        ('ENTRYPOINT ["e"]\nCMD ["c"]', "cmd", ["c"]),
        ("ENTRYPOINT []", "entrypoint", None),
        ("ENTRYPOINT a b", "entrypoint", ["/bin/sh", "-c", "a b"]),
        ("HEALTHCHECK NONE", "healthcheck", Healthcheck(test=["NONE"])),
        (
            "HEALTHCHECK --interval=5s --retries=2 CMD a b", "healthcheck",
            Healthcheck(test=["CMD-SHELL", "a b"], interval=5_000_000_000, retries=2),
        ),
        ("ONBUILD RUN a  $b\nONBUILD COPY . /", "on_build", ["RUN a  $b", "COPY . /"]),
    ],
)  # fmt: skip
def test_configuration(bench, text, field, value):
    assert getattr(bench.plan(f"FROM base\n{text}").config, field) == value


def test_configuration_is_inherited_from_a_stage(bench):
    plan = bench.plan('FROM base AS a\nENV x=1\nUSER u\nCMD ["a"]\nFROM a\nENTRYPOINT ["e"]')
    assert (plan.config.user, plan.config.env, plan.config.cmd) == ("u", ["PATH=/bin", "x=1"], None)
    assert bench.plan("FROM base AS a\nENV x=1\nFROM base").config == BASE


def test_a_path_is_always_set(bench):
    bench.services.images["bare"] = ImageConfig(env=["a=b"])
    assert bench.plan("FROM bare\nRUN x").config.env == ["a=b", DEFAULT_PATH]
    assert bench.plan("FROM bare").config.env == ["a=b"]


def test_the_author(bench):
    bench.services.author = "somebody"
    assert bench.plan("FROM base\nRUN x").author == "somebody"
    assert bench.plan("FROM base\nMAINTAINER me you").author == "me you"
    assert history(bench.plan("FROM base\nMAINTAINER me you")) == ["/bin/sh -c #(nop)  MAINTAINER me you"]


def test_labels_of_the_request_come_last(bench):
    plan = bench.plan("FROM base\nLABEL a=1 b=2\nFROM base", labels={"b": "$x", "c": "3"}, target="0")
    assert plan.config.labels == {"a": "1", "b": "$x", "c": "3"}
    assert plan.steps[-1].shown == "LABEL b=$x c=3"
    assert plan.steps[-1].stage == plan.stages[-1]


def test_a_directory_is_made_for_the_user(bench):
    first, second = of_kind(bench.plan("FROM base\nWORKDIR a\nUSER u\nWORKDIR b\nWORKDIR /"), MakeDirectory)
    assert (first.path, first.user, second.path, second.user) == ("/w/a", "", "/w/a/b", "u")
    assert second.base is first


# --- arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "given", "seen"),
    [
        ("FROM base\nARG a=1\nRUN x", {}, {"a=1"}),
        ("FROM base\nARG a=1\nRUN x", {"a": "2"}, {"a=2"}),
        ("FROM base\nARG a=1\nRUN x", {"a": None}, {"a=1"}),
        ("FROM base\nARG a=1\nRUN x", {"a": ""}, {"a="}),
        ("FROM base\nARG a\nRUN x", {}, set()),
        ("FROM base\nARG a=1 b=$a-x\nRUN x", {}, {"a=1", "b=1-x"}),
        ("FROM base\nRUN x\nARG a=1", {}, set()),
        ("ARG g=1\nFROM base\nRUN x", {}, set()),
        ("ARG g=1\nFROM base\nARG g\nRUN x", {}, {"g=1"}),
        ("ARG g=1\nFROM base\nARG g\nRUN x", {"g": "2"}, {"g=2"}),
        ("ARG g=1\nFROM base\nARG g=3\nRUN x", {}, {"g=3"}),
        ("ARG g=1\nARG h=${g}2\nFROM base\nARG h\nRUN x", {}, {"h=12"}),
        ("FROM base\nARG a=1\nENV a=2\nRUN x", {}, {"a=2"}),
        ("FROM base\nENV a=2\nARG a=1\nRUN x", {"a": "3"}, {"a=2"}),
        ("FROM base\nARG a\nENV a=${a:-d}\nRUN x", {"a": "v"}, {"a=v"}),
        ("FROM base AS one\nARG a=1\nFROM one\nRUN x", {}, {"a=1"}),
        ("FROM base AS one\nARG a=1\nFROM one\nARG a\nRUN x", {}, {"a=1"}),
        ("FROM base AS one\nARG a=1\nFROM base\nRUN x", {}, set()),
        ("FROM base\nARG TARGETARCH\nARG BUILDPLATFORM\nRUN x", {}, {"TARGETARCH=amd64", "BUILDPLATFORM=linux/amd64"}),
        ("FROM base\nRUN x", {"TARGETARCH": "x"}, set()),
        ("FROM base\nARG TARGETARCH\nRUN x", {"TARGETARCH": "mine"}, {"TARGETARCH=mine"}),
        ("FROM base\nARG TARGETSTAGE\nRUN x", {}, {"TARGETSTAGE=default"}),
        ("FROM base\nARG HTTP_PROXY\nRUN x", {"HTTP_PROXY": "p"}, {"HTTP_PROXY=p"}),
        ("FROM base\nARG SOURCE_DATE_EPOCH\nRUN x", {"SOURCE_DATE_EPOCH": "5"}, {"SOURCE_DATE_EPOCH=5"}),
        ("FROM base\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x", {}, set()),
    ],
)
def test_what_a_command_sees(bench, text, given, seen):
    assert variables(runs(bench.plan(text, build_args=given))[-1]) == seen


@pytest.mark.parametrize(
    ("platform", "values"),
    [
        ("linux/arm64", {"PLATFORM": "linux/arm64", "OS": "linux", "ARCH": "arm64", "VARIANT": ""}),
        ("linux/arm64/v8", {"PLATFORM": "linux/arm64", "ARCH": "arm64", "VARIANT": ""}),
        ("arm", {"PLATFORM": "linux/arm/v7", "OS": "linux", "ARCH": "arm", "VARIANT": "v7"}),
        ("linux/x86_64", {"PLATFORM": "linux/amd64", "ARCH": "amd64"}),
        ("linux/riscv64", {"PLATFORM": "linux/riscv64", "ARCH": "riscv64"}),
    ],
)
def test_platform_arguments(bench, platform, values):
    declared = "".join(f"ARG TARGET{name}\n" for name in values)
    (run,) = runs(bench.plan(f"FROM base\n{declared}RUN x", platform=platform))
    assert variables(run) == {f"TARGET{name}={value}" for name, value in values.items()}


@pytest.mark.parametrize(("target", "seen"), [("a", "a"), ("", "b")])
def test_the_target_is_an_argument(bench, target, seen):
    (run,) = runs(bench.plan("FROM base AS a\nARG TARGETSTAGE\nRUN x\nFROM a AS b", target=target))
    assert variables(run) == {f"TARGETSTAGE={seen}"}


def test_proxies_are_hidden_unless_declared(bench):
    given = {"HTTP_PROXY": "http://p", "no_proxy": "n"}
    plan = bench.plan("FROM base\nRUN x", build_args=given)
    (run,) = runs(plan)
    assert variables(run) == set()
    assert set(run.hidden_env) == {"HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=n", "no_proxy=n"}
    assert history(plan) == ["/bin/sh -c x"]
    assert plan.notes == []
    plan = bench.plan("FROM base\nARG HTTP_PROXY\nENV no_proxy=own\nRUN x", build_args=given)
    (run,) = runs(plan)
    assert set(run.hidden_env) == {"http_proxy=http://p", "NO_PROXY=n"}
    assert history(plan)[-1] == "|1 HTTP_PROXY=http://p /bin/sh -c x"


def test_unused_arguments_are_told(bench):
    text = "ARG g\nFROM base AS unused\nARG u\nFROM base\nARG a=1\nONBUILD ARG t\nRUN x"
    plan = bench.plan(text, build_args={"a": "2", "zzz": "1", "yy": None, "u": "1", "g": "2", "HTTPS_PROXY": "p"})
    assert plan.notes == ["[Warning] One or more build-args [yy zzz] were not consumed"]
    assert bench.plan(text, build_args={"TARGETARCH": "x", "BUILDKIT_INLINE_CACHE": "1"}).notes == []


def test_an_argument_of_a_trigger_is_used(bench):
    bench.services.images["on"] = ImageConfig(on_build=["ARG t", "RUN x"])
    plan = bench.plan("FROM on", build_args={"t": "1"})
    assert plan.notes == []
    assert "t=1" in runs(plan)[0].env


def test_arguments_that_tell_the_builder_something(bench):
    text = "FROM base\nRUN --mount=type=cache,target=/c x"
    (run,) = runs(bench.plan(text, build_args={"BUILDKIT_SANDBOX_HOSTNAME": "h", "BUILDKIT_CACHE_MOUNT_NS": "ns"}))
    assert run.hostname == "h"
    assert run.mounts[0].id == "ns//c"
    (run,) = runs(bench.plan(text))
    assert (run.hostname, run.mounts[0].id) == ("", "/c")


@pytest.mark.parametrize(
    ("text", "request_", "epoch"),
    [
        ("FROM base", {}, None),
        ("FROM base", {"build_args": {"SOURCE_DATE_EPOCH": "12"}}, 12),
        ("ARG SOURCE_DATE_EPOCH=7\nFROM base", {}, 7),
        ("ARG SOURCE_DATE_EPOCH=7\nFROM base", {"build_args": {"SOURCE_DATE_EPOCH": ""}}, None),
        ("FROM base", {"source_date_epoch": 3}, 3),
    ],
)
def test_source_date_epoch(bench, text, request_, epoch):
    assert bench.plan(text, **request_).source_date_epoch == epoch


def test_a_bad_source_date_epoch(bench):
    error = bench.fails("FROM base", build_args={"SOURCE_DATE_EPOCH": "yesterday"})
    assert 'invalid SOURCE_DATE_EPOCH: "yesterday"' in error


# --- commands -----------------------------------------------------------------------------------------


def test_a_command_has_the_configuration_so_far(bench):
    text = 'FROM base\nUSER u\nWORKDIR /there\nENV x=y\nRUN a "$x"\nSHELL ["bash", "-c"]\nRUN b\nRUN ["c", "$x"]'
    plan = bench.plan(text)
    first, second, third = runs(plan)
    assert (first.args, first.user, first.cwd) == (("/bin/sh", "-c", 'a "$x"'), "u", "/there")
    assert first.env == ("PATH=/bin", "x=y")
    assert second.args == ("bash", "-c", "b")
    assert third.args == ("c", "$x")
    assert history(plan)[-1] == "c $x"
    assert third.base is second and second.base is first


def test_the_shell_of_an_image(bench):
    bench.services.images["own"] = msgspec.structs.replace(BASE, shell=["own", "-x"])
    plan = bench.plan("FROM own\nRUN a")
    assert runs(plan)[0].args == ("own", "-x", "a")


def test_heredocs_of_run(bench):
    plan = bench.plan(
        "FROM base\nRUN <<EOF\necho $a\nEOF\nRUN cat <<A > /x\n$b\nA\nRUN <<-P\n\tx\n\tP\n"
        "RUN paste <<A - <<B\n1\nA\n2\nB\n"
    )
    alone, inner, tabs, both = (run.args[2] for run in runs(plan))
    assert alone == "echo $a\n"
    assert inner == "cat <<A > /x\n$b\nA"
    assert tabs == "x\n"
    assert both == "paste <<A - <<B\n1\nA\n2\nB"
    assert not any(run.mounts for run in runs(plan))


def test_a_script_is_a_file(bench):
    plan = bench.plan("FROM base\nRUN <<prog.py\n#!/usr/bin/env python3\nprint(1)\nprog.py\n")
    (run,) = runs(plan)
    assert run.args == ("/bin/sh", "-c", "/dev/pipes/prog.py")
    (mount,) = run.mounts
    assert isinstance(mount, BindMount)
    assert (mount.target, mount.read_only, mount.path) == ("/dev/pipes", True, "")
    (file,) = mount.source.files
    assert (file.name, file.mode, file.data) == ("prog.py", 0o755, b"#!/usr/bin/env python3\nprint(1)\n")
    assert run.name == "[2/2] RUN <<prog.py (#!/usr/bin/env python3...)"


def test_a_script_stays_in_its_directory(bench):
    (run,) = runs(bench.plan("FROM base\nRUN <<../../etc/x\n#!/bin/sh\n../../etc/x\nRUN a", target=""))[:1]
    assert [file.name for file in run.mounts[0].source.files] == ["x"]


@pytest.mark.parametrize(
    ("written", "mount"),
    [
        ("type=cache,target=/c", CacheMount(target="/c", id="/c")),
        ("type=cache,target=/c/", CacheMount(target="/c", id="/c")),
        ("type=cache,target=c", CacheMount(target="/w/c", id="c")),
        (
            "type=cache,id=i,dst=/c,sharing=locked,ro,mode=0700,uid=1,gid=2",
            CacheMount(target="/c", id="i", sharing="locked", read_only=True, mode=0o700, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/t", TmpfsMount(target="/t")),
        ("type=tmpfs,target=/t,size=64m", TmpfsMount(target="/t", size=64 << 20)),
        ("type=secret,id=a/b", SecretMount(id="a/b", target="/run/secrets/b")),
        ("type=secret,id=a,target=k", SecretMount(id="a", target="/w/k")),
        ("type=secret,target=/x/key", SecretMount(id="key", target="/x/key")),
        ("type=secret,id=a,env=TOKEN", SecretMount(id="a", env="TOKEN")),
        ("type=secret,id=a,env=T,target=/k", SecretMount(id="a", env="T", target="/k")),
        (
            "type=secret,id=a,required,mode=0440,uid=1,gid=2",
            SecretMount(id="a", target="/run/secrets/a", required=True, mode=0o440, uid=1, gid=2),
        ),
        ("type=ssh", SshMount()),
        ("type=ssh,id=x,target=/s,required=true", SshMount(id="x", target="/s", required=True)),
        ("type=ssh,mode=0666,uid=5", SshMount(mode=0o666, uid=5)),
        ("type=$kind,target=/$kind", CacheMount(target="/cache", id="/cache")),
    ],
)
def test_mounts(bench, written, mount):
    (run,) = runs(bench.plan(f"FROM base\nARG kind=cache\nRUN --mount={written} x"))
    (found,) = run.mounts
    assert type(found) is type(mount)
    assert msgspec.structs.asdict(found) == msgspec.structs.asdict(mount)


def test_binds(bench):
    bench.services.images["tool"] = ImageConfig()
    plan = bench.plan(
        "FROM base AS one\nRUN a\nFROM base\n"
        "RUN --mount=target=/c --mount=from=one,source=/a/../b,target=m --mount=from=tool,target=/t,rw "
        "--mount=type=cache,from=one,target=/k,source=seed --mount=from=0,target=/n x"
    )
    whole, stage, image, cache, number = plan.result.mounts
    assert isinstance(whole.source, LocalSource) and whole.source.context == "" and whole.path == ""
    assert stage.source is plan.steps[1].node
    assert (stage.path, stage.target, stage.read_only) == ("b", "/w/m", True)
    assert isinstance(image.source, ImageSource) and image.source.reference == "tool"
    assert image.read_only is False
    assert (cache.source, cache.path, cache.read_only) == (stage.source, "seed", False)
    assert number.source is stage.source


@pytest.mark.parametrize(
    ("flag", "network"), [("none", "none"), ("default", ""), ("mine", "mine")],
)  # fmt: skip
def test_networks(bench, flag, network):
    (run,) = runs(bench.plan(f"FROM base\nRUN --network={flag} x"))
    assert run.network == network


@pytest.mark.parametrize(
    ("flag", "entitlement"), [("--network=host", "network.host"), ("--security=insecure", "security.insecure")]
)
def test_what_needs_to_be_allowed(bench, flag, entitlement):
    text = f"FROM base\n\nRUN {flag} x"
    error = bench.fails(text, Forbidden)
    assert error.startswith(f"Dockerfile:3: {entitlement} is not allowed")
    assert f"--allow {entitlement}" in error
    (run,) = runs(bench.plan(text, allow=[entitlement]))
    assert (run.network == "host", run.insecure) == (entitlement == "network.host", entitlement != "network.host")


def test_the_network_of_the_request_is_allowed(bench):
    assert runs(bench.plan("FROM base\nRUN --network=host x", network_mode="host"))[0].network == "host"
    assert runs(bench.plan("FROM base\nRUN --security=sandbox x"))[0].insecure is False


# --- the cache ----------------------------------------------------------------------------------------


def test_no_cache_makes_every_step_fresh(bench):
    plan = bench.plan("FROM base AS a\nRUN a\nFROM base\nCOPY --from=a /x /x\nWORKDIR /y", no_cache=True)
    assert [node.fresh for node in (*runs(plan), plan.result, plan.result.base)] == [True] * 3
    assert not plan.base.fresh


@pytest.mark.parametrize(("names", "fresh"), [(["B"], [False, True]), (["0"], [True, False]), (["x"], [False, False])])
def test_no_cache_of_some_stages(bench, names, fresh):
    plan = bench.plan("FROM base AS a\nRUN a\nFROM a AS b\nRUN b", no_cache_stages=names)
    assert [run.fresh for run in runs(plan)] == fresh


def test_the_context_is_one_node(bench):
    plan = bench.plan("FROM base\nCOPY a /\nRUN --mount=target=/m x\nCOPY b /")
    assert len(of_kind(plan, LocalSource)) == 1


def test_inline_files_are_one_source_each(bench):
    plan = bench.plan("FROM base\nCOPY <<a <<b /x/\n1\na\n2\nb\n")
    assert [source.files[0].data for source in of_kind(plan, InlineSource)] == [b"1\n", b"2\n"]


# --- mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("FROM base\nEXPOSE x", 2, "invalid containerPort: x"),
        ("FROM base\nEXPOSE 80/foo", 2, "invalid proto: foo"),
        ("FROM base\nEXPOSE 70000", 2, "invalid containerPort"),
        ("FROM base\nSTOPSIGNAL foo", 2, "invalid signal: foo"),
        ("FROM base\nENV a=${b", 2, "failed to process"),
        ("FROM base\nWORKDIR ${x:?bad}", 2, "x: bad"),
        ("FROM base\nENV $no=1", 2, "blank after expansion"),
        ("FROM base\nVOLUME $no", 2, "VOLUME specified can not be an empty string"),
        ("FROM base\nWORKDIR $no", 2, "WORKDIR is empty"),
        ("FROM base\nARG k=nonsense\nRUN --mount=type=$k,target=/x a", 3, 'unsupported mount type "nonsense"'),
        ("FROM base\nRUN --mount=target=/ a", 2, 'invalid mount target "/"'),
        ("FROM base\nWORKDIR /\nRUN --mount=target=. a", 3, 'invalid mount target "."'),
        ("FROM base\nRUN --mount=type=cache,target=/x,size=3 a", 2, "unexpected key 'size'"),
        ("RUN x\nFROM base", 1, "stands before FROM"),
        ("FROM $no", 1, "should not be blank"),
        ("FROM --platform=$no base", 1, "empty platform value from expression $no"),
        ("FROM --platform=a/b/c/d base", 1, "failed to parse platform a/b/c/d"),
        ("ARG a=${x:?unset}\nFROM base", 1, "x: unset"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(bench, text, line, why):
    message = bench.fails(text, InvalidArgument)
    assert message.startswith(f"Dockerfile:{line}: ")
    assert why in message
    assert f"> {line} | " in message
    assert message.count(f"Dockerfile:{line}") == 1


def test_a_bad_platform_of_the_request(bench):
    assert '"a/b/c/d" is not a platform' in bench.fails("FROM base", platform="a/b/c/d")
