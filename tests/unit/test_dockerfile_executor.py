"""Whole builds on services that keep everything in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import anyio
import msgspec
import pytest

from hooper.api.builder import BuildRequest, BuildServices, BuildState, Progress, SourceEntry
from hooper.api.errors import HooperError, InvalidArgument, NotFound
from hooper.api.model import ImageConfig
from hooper_builder_dockerfile.builder import DockerfileBuilder


def sha(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Told(Progress):
    def __init__(self):
        self.text, self.auxiliary = "", []

    async def stream(self, text):
        self.text += text

    async def aux(self, value):
        self.auxiliary.append(value)

    async def message(self, value):
        raise AssertionError(value)


class Memory(BuildServices):
    """`directories`: what make_directory finds already there."""

    def __init__(self):
        self.images = {"base": ImageConfig(env=["PATH=/bin"], cmd=["sh"], working_dir="/w")}
        self.cache, self.finished, self.work, self.lookups = {}, {}, [], 0
        self.chains = {}
        self.pulled = []

    async def scratch(self, platform):
        return BuildState(ImageConfig(), key="scratch", architecture="amd64")

    async def image(self, reference, platform, pull):
        self.pulled.append((reference, platform, pull))
        if reference not in self.images:
            raise NotFound(f"No such image: {reference}")
        image_id = f"sha256:{sha(reference)}"
        return BuildState(
            self.images[reference], chain=f"c-{reference}", diff_ids=("d0",), key=image_id, image_id=image_id,
            architecture="amd64", created="2020-01-01T00:00:00Z",
        )  # fmt: skip

    async def cached(self, key):
        self.lookups += 1
        found = self.cache.get(key)
        return msgspec.msgpack.decode(found, type=BuildState) if found else None

    async def remember(self, state):
        self.cache[state.key] = msgspec.msgpack.encode(state)

    def _layer(self, state, *what):
        self.work.append(what)
        diff = sha(*what)
        chain = sha(state.chain, diff)
        return msgspec.structs.replace(state, chain=chain, diff_ids=(*state.diff_ids, diff))

    async def run(self, state, step):
        if step.args[-1].startswith("exit"):
            raise InvalidArgument(f"The command '{' '.join(step.args)}' returned a non-zero code: 3")
        return self._layer(state, "run", step)

    async def copy(self, state, step):
        return self._layer(state, "copy", step)

    async def make_directory(self, state, path, user):
        return state if path == "/there" else self._layer(state, "mkdir", path)

    async def list_sources(self, source):
        root = source.directory
        if root is None:
            root = self.chains[source.chain]
        found = [p for p in sorted(root.rglob("*")) if not source.paths[0] or _below(p, root / source.paths[0])]
        return [_entry(root, path) for path in found]

    async def read_file(self, state, path):
        raise NotFound(path)

    async def download(self, url):
        place = self.downloads / sha(url)
        place.mkdir()
        (place / "file").write_text(url)
        return place

    async def finish(self, state, image=None):
        image_id = f"sha256:{sha(state.config, state.history, state.diff_ids, image)}"
        self.finished[image_id] = (state, image)
        return image_id


def _below(path, top):
    return path == top or top in path.parents


def _entry(root, path):
    kind = "symlink" if path.is_symlink() else "directory" if path.is_dir() else "file"
    content = path.read_bytes() if kind == "file" else b""
    return SourceEntry(path.relative_to(root).as_posix(), kind, sha(content, path.lstat().st_mode))


class Bench:
    def __init__(self, place: Path):
        self.context, self.services = place / "context", Memory()
        self.context.mkdir()
        self.services.downloads = place
        context = SimpleNamespace(exec_dir=place / "exec", host=SimpleNamespace(architecture="amd64"))
        self.builder = DockerfileBuilder(context)
        self.told = Told()

    def write(self, **files):
        for name, content in files.items():
            path = self.context / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def build(self, text, **request):
        (self.context / "Dockerfile").write_text(text)
        self.told = Told()
        wanted = BuildRequest(context=self.context, **request)
        self.id = anyio.run(self.builder.build, wanted, self.services, self.told)
        return self.services.finished.get(self.id, (None, None))[0]

    def runs(self):
        return [what[1] for what in self.services.work if what[0] == "run"]

    def copies(self):
        return [what[1] for what in self.services.work if what[0] == "copy"]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def fails(bench, text, kind=InvalidArgument, **request):
    with pytest.raises(HooperError) as caught:
        bench.build(text, **request)
    assert isinstance(caught.value, kind)
    return str(caught.value)


# --- output, history, configuration -------------------------------------------------------------------


def test_the_words_of_the_classic_builder(bench):
    bench.build("FROM base\nENV a=b\nRUN echo hi\n", tags=["x"])
    lines = bench.told.text.splitlines()
    assert lines[0] == "Step 1/3 : FROM base"
    assert lines[1] == f" ---> {sha('base')[:12]}"
    assert lines[2] == "Step 2/3 : ENV a=b"
    assert lines[5].startswith(" ---> Running in ")
    assert lines[6].startswith("Removing intermediate container ")
    assert lines[-1] == f"Successfully built {bench.id[7:19]}"
    assert bench.told.auxiliary == [{"ID": bench.id}]


def test_history_is_as_docker_writes_it(bench):
    bench.write(f="x")
    state = bench.build(
        "FROM base\nENV a=b c=\"d e\"\nENV x y  z $a\nLABEL l=$a\nRUN echo hi\nWORKDIR x/$a\nEXPOSE 80-82 53/udp\n"
        "ONBUILD RUN echo x\nCMD echo $a\nVOLUME /v $a\nSHELL [\"/bin/sh\",\"-ec\"]\nSTOPSIGNAL 9\n"
        "ENTRYPOINT [\"a\"]\nCOPY f /x/\nARG foo=bar\nARG bar\nRUN echo $foo $bar\nUSER $a\n",
        build_args={"bar": "q r"}, labels={"zz": "$1'"},
    )  # fmt: skip
    texts = [step.created_by for step in state.history]
    assert texts[:12] == [
        "/bin/sh -c #(nop)  ENV a=b c=d e",
        "/bin/sh -c #(nop)  ENV x=y  z b",
        "/bin/sh -c #(nop)  LABEL l=b",
        "/bin/sh -c echo hi",
        "/bin/sh -c #(nop) WORKDIR /w/x/b",
        "/bin/sh -c #(nop)  EXPOSE 53/udp 80-82",
        "/bin/sh -c #(nop)  ONBUILD RUN echo x",
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "echo $a"]',
        "/bin/sh -c #(nop)  VOLUME [/v b]",
        "/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]".replace("-ec #", "-c #"),
        "/bin/sh -ec #(nop)  STOPSIGNAL 9",
        '/bin/sh -ec #(nop)  ENTRYPOINT ["a"]',
    ]
    assert texts[12].startswith("/bin/sh -ec #(nop) COPY file:")
    assert texts[12].endswith(" in /x/ ")
    assert texts[13:] == [
        "/bin/sh -ec #(nop)  ARG foo=bar",
        "/bin/sh -ec #(nop)  ARG bar",
        "|2 bar=q r foo=bar /bin/sh -ec echo $foo $bar",
        "/bin/sh -ec #(nop)  USER b",
        "/bin/sh -ec #(nop)  LABEL zz=$1'",
    ]
    assert [i for i, step in enumerate(state.history) if not step.empty_layer] == [3, 4, 12, 15]
    config = state.config
    assert config.env == ["PATH=/bin", "a=b", "c=d e", "x=y  z b"]
    assert config.labels == {"l": "b", "zz": "$1'"}
    assert list(config.exposed_ports) == ["53/udp", "80/tcp", "81/tcp", "82/tcp"]
    assert config.on_build == ["RUN echo x"]
    assert (config.working_dir, config.user, config.stop_signal) == ("/w/x/b", "b", "9")
    assert list(config.volumes) == ["/v", "b"]


def test_entrypoint_resets_an_inherited_command_only(bench):
    assert bench.build('FROM base\nENTRYPOINT ["e"]').config.cmd is None
    assert bench.build('FROM base\nCMD ["c"]\nENTRYPOINT ["e"]').config.cmd == ["c"]


def test_run_gets_environment_user_directory_and_arguments(bench):
    bench.build(
        "FROM base\nARG a=1\nARG b=2\nENV b=env\nUSER u\nWORKDIR /there\nRUN x\nRUN [\"y\", \"$a\"]",
        build_args={"HTTP_PROXY": "http://p"},
    )  # fmt: skip
    first, second = bench.runs()
    assert first.args == ("/bin/sh", "-c", "x")
    assert set(first.env) == {"PATH=/bin", "b=env", "a=1", "HTTP_PROXY=http://p"}
    assert (first.user, first.cwd) == ("u", "/there")
    assert second.args == ("y", "$a")


def test_heredocs_of_run(bench):
    bench.build(
        "FROM base\nRUN <<EOF\necho $a\nEOF\nRUN cat <<A > /x\n$b\nA\nRUN <<P\n#!/usr/bin/env python3\nprint(1)\nP\n"
    )
    alone, inner, script = (run.args[2] for run in bench.runs())
    assert alone == "echo $a\n"
    assert inner == "cat <<A > /x\n$b\nA\n"
    assert script.startswith("exec /usr/bin/env python3 /dev/fd/3 3<<'")
    assert "print(1)\n" in script


def test_maintainer_is_the_author(bench):
    bench.build("FROM base\nMAINTAINER me you")
    assert bench.services.finished[bench.id][1].author == "me you"


def test_a_recipe_of_from_alone_is_its_base(bench):
    bench.build("FROM base")
    assert bench.id == f"sha256:{sha('base')}"
    assert not bench.services.finished


def test_a_failing_command_is_reported_in_dockers_words(bench):
    assert "The command '/bin/sh -c exit 3' returned a non-zero code: 3" in fails(bench, "FROM base\nRUN exit 3")


# --- arguments ----------------------------------------------------------------------------------------


def test_argument_scopes(bench):
    bench.build(
        "ARG tag=base\nARG g=global\nFROM $tag\nRUN a\nARG g\nRUN b\nFROM base\nARG g=own\nRUN c\nCOPY --from=0 /a /a",
        target="0",
    )
    assert [set(run.env) - {"PATH=/bin"} for run in bench.runs()] == [set(), {"g=global"}]


def test_a_given_argument_wins_and_an_unused_one_is_told(bench):
    bench.build("FROM base\nARG a=1\nARG c=$a-x\nRUN x", build_args={"a": "2", "zzz": "1"})
    assert set(bench.runs()[0].env) == {"PATH=/bin", "a=2", "c=2-x"}
    assert "[Warning] One or more build-args [zzz] were not consumed" in bench.told.text


def test_platform_arguments_need_a_declaration_in_a_stage(bench):
    bench.build("FROM --platform=$BUILDPLATFORM base\nARG TARGETARCH\nRUN x", platform="linux/arm64")
    assert bench.services.pulled == [("base", "linux/amd64", False)]
    assert "TARGETARCH=arm64" in bench.runs()[0].env


# --- stages -------------------------------------------------------------------------------------------


def test_stages_that_nothing_needs_are_skipped(bench):
    bench.services.chains = {}
    state = bench.build("FROM base AS a\nRUN a\nFROM base AS b\nRUN b\nFROM A\nRUN c")
    assert [run.args[2] for run in bench.runs()] == ["a", "c"]
    assert len(state.history) == 2
    assert "Step 4/4 : RUN c" in bench.told.text


def test_target_by_name_and_unknown(bench):
    bench.build("FROM base AS a\nRUN a\nFROM base AS b\nRUN b", target="A")
    assert [run.args[2] for run in bench.runs()] == ["a"]
    assert "Stages: a, b" in fails(bench, "FROM base AS a\nFROM base AS b", target="c")


def test_triggers_run_and_are_not_inherited(bench):
    bench.services.images["on"] = ImageConfig(on_build=["RUN t1", "ENV a=1"])
    state = bench.build("FROM on\nRUN x")
    assert [run.args[2] for run in bench.runs()] == ["t1", "x"]
    assert state.config.on_build is None
    assert "# Executing 2 build triggers\n" in bench.told.text


def test_scratch(bench):
    bench.write(f="x")
    state = bench.build("FROM scratch\nCOPY f /")
    assert len(state.diff_ids) == 1
    assert bench.copies()[0].destination == "/"


# --- cache --------------------------------------------------------------------------------------------


def test_the_same_build_gives_the_same_image_and_looks_up_once_a_step(bench):
    bench.write(f="x")
    text = "FROM base\nARG a=1\nENV b=2\nRUN x\nCOPY f /x\nWORKDIR /y\n"
    bench.build(text)
    first, work = bench.id, list(bench.services.work)
    bench.services.lookups = 0
    bench.build(text)
    assert bench.id == first
    assert bench.services.work == work
    assert bench.services.lookups == 5
    assert bench.told.text.count(" ---> Using cache\n") == 5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ENV a=b c=d", 'ENV a="b c=d"'),
        ("RUN a b", 'RUN ["/bin/sh", "-c", "a  b"]'),
        ("COPY f /x", "COPY f /x/"),
        ("COPY f /x", "COPY --chown=1 f /x"),
        ("COPY f /x", "ADD f /x"),
        ("COPY f /x/", "COPY g /x/"),
        ("RUN a", "RUN --network=none a"),
    ],
)
def test_another_instruction_is_another_step(bench, before, after):
    bench.write(f="x", g="x")
    bench.build(f"FROM base\n{before}")
    bench.build(f"FROM base\n{after}")
    assert "Using cache" not in bench.told.text


def test_changed_content_and_arguments_miss(bench):
    bench.write(f="x", d__a="1")
    text = "FROM base\nARG v=0\nCOPY f d /x/\nRUN a"
    bench.build(text)
    bench.write(d__a="2")
    bench.build(text)
    assert bench.told.text.count("Using cache") == 1
    bench.build(text, build_args={"v": "1"})
    assert bench.told.text.count("Using cache") == 2


def test_no_cache_runs_again_and_remembers(bench):
    bench.build("FROM base\nRUN a")
    bench.build("FROM base\nRUN a", no_cache=True)
    assert len(bench.runs()) == 2
    bench.build("FROM base\nRUN a")
    assert len(bench.runs()) == 2


# --- copying ------------------------------------------------------------------------------------------


def test_destinations_and_sources(bench):
    bench.write(a="1", b="2", d__c="3", d__e__f="4")
    bench.build("FROM base\nCOPY a x\nCOPY a b .\nCOPY d/* ./y/\nADD d /z\nCOPY ./d/../a /a/../q\nCOPY . /all/")
    one, two, three, four, five, six = bench.copies()
    assert (one.destination, one.sources[0].paths, one.unpack) == ("/w/x", ("a",), False)
    assert two.destination == "/w/"
    assert [source.paths[0] for source in three.sources] == ["d/c", "d/e"]
    assert (four.unpack, four.destination) == (True, "/z")
    assert (five.sources[0].paths, five.destination) == (("a",), "/q")
    assert six.sources[0].paths == ("",)


def test_copy_from_a_stage_and_an_image(bench, tmp_path):
    files = tmp_path / "fs"
    (files / "bin").mkdir(parents=True)
    (files / "bin" / "a1").write_text("x")
    bench.services.images["tool"] = ImageConfig()
    bench.services.chains = {"c-tool": files, "c-base": files}
    bench.build("FROM base AS s\nFROM base\nCOPY --from=s /bin/a1 /a\nCOPY --from=tool --chown=1 /bin/a* /b\n")
    first, second = bench.copies()
    assert (first.sources[0].chain, first.keep_owner) == ("c-base", True)
    assert (second.sources[0].chain, second.sources[0].paths, second.keep_owner) == ("c-tool", ("bin/a1",), False)


def test_heredocs_of_copy(bench):
    seen = {}
    copy = bench.services.copy

    async def spy(state, step):
        seen[step.sources[0].paths[0]] = (step.sources[0].directory / step.sources[0].paths[0]).read_text()
        return await copy(state, step)

    bench.services.copy = spy
    bench.build("FROM base\nENV v=1\nCOPY <<a /x\nis $v\na\nCOPY <<'b' /x\nis $v\nb\n")
    assert seen == {"a": "is 1\n", "b": "is $v\n"}
    assert not any(Path(bench.builder.context.exec_dir).iterdir())


def test_add_of_an_url(bench):
    bench.build("FROM base\nADD http://h/a/file /x/")
    copy = bench.copies()[0]
    assert (copy.chmod, copy.unpack) == ("600", False)
    wrong = "sha256:" + "0" * 64
    assert "digest mismatch" in fails(bench, f"FROM base\nADD --checksum={wrong} http://h/b /x/")


def test_dockerignore_removes_and_explains(bench):
    bench.write(a="1", b="2", **{".dockerignore": "*\n!a\n"})
    bench.build("FROM base\nCOPY . /x/")
    assert sorted(path.name for path in bench.context.iterdir()) == ["a"]
    bench.write(b="2", **{"Dockerfile.dockerignore": "b", ".dockerignore": "a"})
    text = fails(bench, "FROM base\nCOPY b /x/")
    assert "Dockerfile:2: COPY failed: file not found in build context or excluded by .dockerignore: stat b" in text
    assert "Dockerfile.dockerignore excludes it" in text


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("FROM base\n\nCOPY nofile /x", 3, "file not found in build context"),
        ("FROM base\nCOPY no* /x", 2, "no source files were specified"),
        ("FROM base\nCOPY ../x /", 2, "forbidden path outside the build context"),
        ("FROM base\nCOPY a b /x", 2, "must be a directory and end with a /"),
        ("FROM base\nCOPY * /x", 2, "must be a directory and end with a /"),
        ("FROM base\nCOPY --from=3 a b", 2, "index out of bounds"),
        ("FROM base\nCOPY --chmod=9 a b", 2, "invalid chmod"),
        ("FROM base\nCOPY --chown=a:b:c a b", 2, "invalid chown"),
        ("FROM base\nCOPY a[ b", 2, "syntax error in pattern"),
        ("FROM base\nADD git@github.com:a/b.git /x", 2, "git repositories are not supported"),
        ("FROM base\nEXPOSE x", 2, "invalid containerPort: x"),
        ("FROM base\nEXPOSE 80/foo", 2, "invalid proto: foo"),
        ("FROM base\nEXPOSE 70000", 2, "invalid containerPort"),
        ("FROM base\nSTOPSIGNAL foo", 2, "invalid signal: foo"),
        ("FROM base\nENV a=${b", 2, "in substitution"),
        ("FROM base\nWORKDIR ${x:?bad}", 2, "x: bad"),
        ("FROM base\nENV $no=1", 2, "blank after expansion"),
        ("RUN x\nFROM base", 1, "stands before FROM"),
        ("FROM $no", 1, "should not be blank"),
        ("FROM nowhere", 1, "No such image: nowhere"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(bench, text, line, why):
    bench.write(a="1", b="2")
    message = fails(bench, text, HooperError)
    assert message.startswith(f"Dockerfile:{line}: ")
    assert why in message


def test_a_dockerfile_that_is_missing_or_outside(bench, tmp_path):
    (tmp_path / "secret").write_text("FROM base")
    (bench.context / "link").symlink_to(tmp_path / "secret")
    assert "Cannot locate specified Dockerfile: x" in fails(bench, "FROM base", NotFound, dockerfile="x")
    assert "outside the build context" in fails(bench, "FROM base", dockerfile="link")
    assert "outside the build context" in fails(bench, "FROM base", dockerfile="../secret")


def test_scratch_alone_is_no_image(bench):
    assert "no image was generated" in fails(bench, "FROM scratch")


def test_what_the_engine_refuses_is_named_with_file_and_line(bench):
    bench.write(f="x")

    async def refuse(state, step):
        raise NotFound("no user nosuch", "passwd has none", "Add it.")

    bench.services.copy = refuse
    text = fails(bench, "FROM base\n\nCOPY --chown=nosuch f /x", NotFound)
    assert text == "Dockerfile:3: no user nosuch: passwd has none\nAdd it."
