"""The Dockerfile language, built and looked at: what Docker's classic builder has, compared with it; and the rest."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from support import Engine, Hooper, context_tar

pytestmark = pytest.mark.root


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory


def inspected(engine: Engine, image: str = "built") -> dict:
    return json.loads(engine.docker("image", "inspect", image).stdout)[0]


def created_by(engine: Engine, image: str = "built") -> list[str]:
    """The oldest first."""
    shown = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    return shown.splitlines()[::-1]


# --- as Docker does it --------------------------------------------------------------------------------

CLASSIC = """\
ARG from=busybox
FROM $from AS first
ARG v=1
ENV A=x${v} B="two words" \\
    C=$v
LABEL one=$A "two words"='$B'
RUN mkdir -p /made && echo $A $v > /made/f
WORKDIR rel/$A
EXPOSE 80 53/udp 8000-8001
VOLUME ["/v", "/w x"]
ONBUILD RUN echo triggered > /triggered
CMD echo $A

FROM first
SHELL ["/bin/sh", "-ec"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
COPY --from=FIRST /made/f a* /copied/
ADD --chown=1000:5 a /owned
USER user
ENTRYPOINT echo "$A"
"""


def test_configuration_and_history(either: Engine, tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": CLASSIC.replace("/made/f a*", "/made/f"), "a": "A"})
    either.docker("build", "-t", "built", "--build-arg", "v=7", "--label", "given=$1", str(tmp_path))
    config = inspected(either)["Config"]
    assert config["Env"] == ["PATH=/bin", "A=x7", "B=two words", "C=7"]
    assert config["Labels"] == {"one": "x7", "two words": "$B", "given": "$1"}
    assert config["ExposedPorts"] == {port: {} for port in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp")}
    assert config["Volumes"] == {"/v": {}, "/w x": {}}
    assert config["WorkingDir"] == "/rel/x7"
    assert (config["User"], config["StopSignal"], config["Shell"]) == ("user", "SIGINT", ["/bin/sh", "-ec"])
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 2}
    assert config["Entrypoint"] == ["/bin/sh", "-ec", 'echo "$A"']
    assert not config.get("Cmd") and not config.get("OnBuild")
    history = created_by(either)
    at = next(index for index, text in enumerate(history) if "ARG v" in text)
    copies = [text for text in history if " COPY " in text or " ADD " in text]
    assert [text.rpartition(" in ")[2].strip() for text in copies] == ["/copied/", "/owned"]
    # A stage inherits the arguments of the one that it is FROM: newer than the classic builder.
    plain = [text.replace("|1 v=7 /bin/sh -c echo t", "/bin/sh -c echo t") for text in history[at:]]
    assert [text for text in plain if text not in copies and "HEALTHCHECK" not in text] == [
        "/bin/sh -c #(nop)  ARG v=1",
        "/bin/sh -c #(nop)  ENV A=x7 B=two words C=7",
        "/bin/sh -c #(nop)  LABEL one=x7 two words=$B",
        "|1 v=7 /bin/sh -c mkdir -p /made && echo $A $v > /made/f",
        "/bin/sh -c #(nop) WORKDIR /rel/x7",
        "/bin/sh -c #(nop)  EXPOSE 53/udp 80 8000-8001",
        "/bin/sh -c #(nop)  VOLUME [/v /w x]",
        "/bin/sh -c #(nop)  ONBUILD RUN echo triggered > /triggered",
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "echo $A"]',
        "/bin/sh -c echo triggered > /triggered",
        "/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]",
        "/bin/sh -ec #(nop)  STOPSIGNAL SIGINT",
        "/bin/sh -ec #(nop)  USER user",
        '/bin/sh -ec #(nop)  ENTRYPOINT ["/bin/sh" "-ec" "echo \\"$A\\""]',
        "/bin/sh -ec #(nop)  LABEL given=$1",
    ]  # fmt: skip


# --- what is newer ------------------------------------------------------------------------------------


@pytest.fixture
def build(clean: Hooper, tmp_path: Path):
    """Builds with hooper's own client; the files are those of the context."""

    def run(dockerfile: str, *words: str, check: bool = True, files: dict[str, str] | None = None):
        context = write(tmp_path / "context", {"Dockerfile": dockerfile, **(files or {})})
        return clean.hooper("build", "-t", "built", *words, str(context), check=check)

    yield run
    clean.docker("image", "rm", "-f", "built", check=False)


def output(engine: Engine, script: str) -> list[str]:
    return engine.docker("run", "--rm", "built", "/bin/sh", "-c", script).stdout.split()


def test_here_documents_and_mounts(clean, build):
    build(
        "FROM busybox AS tools\nRUN mkdir /t && echo tool > /t/name\n"
        "FROM busybox\nWORKDIR /w\nARG who=you\n"
        "RUN <<EOF\necho $who > one\necho two > two\nEOF\n"
        "RUN <<script.sh\n#!/bin/busybox sh\necho $0 > three\nscript.sh\n"
        "RUN cat <<A > four && cat <<B > five\n4$who\nA\n5\nB\n"
        "COPY <<-six <<'seven' ./\n\t6 $who\nsix\n7 $who\nseven\n"
        "RUN --mount=from=tools,source=/t,target=m --mount=target=/ctx --mount=type=cache,target=/cache "
        "cat m/name /ctx/file > eight && touch /cache/x\n"
        "RUN --mount=type=cache,target=/cache,id=/cache ls /cache > nine\n",
        files={"file": "context\n"},
    )
    found = output(clean, "cat one two three four five six seven eight nine; ls -a /dev/pipes /ctx /cache m | wc -l")
    assert found == "you two /dev/pipes/script.sh 4you 5 6 you 7 $who tool context x 0".split()


def test_copies_that_keep_or_leave_out(clean, build):
    files = {"a/b/c.txt": "c", "a/b/d.o": "d", "a/e/f.txt": "f", "top.txt": "t"}
    build(
        "FROM busybox\nCOPY --parents a/b/*.txt ./a/./e/f.txt /p/\nCOPY --exclude=**/*.o --exclude=e a /x/\n"
        "COPY --chmod=u=rw,go= --link top.txt /l/\n",
        files=files,
    )
    found = output(clean, "cd /; find p x l -type f | sort; stat -c %a l/top.txt")
    assert found == ["l/top.txt", "p/a/b/c.txt", "p/e/f.txt", "x/b/c.txt", "600"]


def test_named_contexts(clean, build, tmp_path):
    other = write(tmp_path / "other", {"x": "other", "skipped": "s", ".dockerignore": "skipped\n"})
    clean.docker("tag", "busybox", "second")
    build(
        "FROM nowhere.invalid/base AS stage\nRUN exit 1\nFROM alpine.invalid/x\nCOPY --from=tree . /tree/\n"
        "COPY --from=stage /bin/busybox /copied\nRUN --mount=from=tree,target=/m cat /m/x > /from-mount\n",
        "--build-context", f"tree={other}",
        "--build-context", "alpine.invalid/x=docker-image://second",
        "--build-context", "stage=docker-image://busybox",
    )  # fmt: skip
    assert output(clean, "ls -A /tree; cat /from-mount; echo; ls /copied") == [".dockerignore", "x", "other", "/copied"]
    clean.docker("rmi", "second")


def test_a_stage_from_a_tree(clean, build, tmp_path):
    tree = write(tmp_path / "tree", {"f": "x"})
    build("FROM tree\nCOPY --from=busybox / /\nRUN cat /f > /g\n", "--build-context", f"tree={tree}")
    assert output(clean, "cat /f /g") == ["xx"]
    assert len(inspected(clean)["RootFS"]["Layers"]) == 3


def test_triggers_that_copy_from_stages(clean, build):
    build("FROM busybox\nONBUILD COPY --from=made /f /triggered\n", "-t", "parent")
    build("FROM busybox AS made\nRUN echo t > /f\nFROM busybox AS unused\nRUN exit 1\nFROM parent\n")
    assert output(clean, "cat /triggered") == ["t"]
    clean.docker("rmi", "parent")


def test_platforms_and_predefined_arguments(clean, build):
    build(
        "FROM busybox\nARG TARGETARCH BUILDPLATFORM TARGETSTAGE\n"
        "RUN echo $TARGETARCH $BUILDPLATFORM $TARGETSTAGE $HTTP_PROXY $http_proxy $(hostname) > /f\n",
        "--build-arg", "HTTP_PROXY=http://proxy.invalid", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=named",
    )  # fmt: skip
    architecture = inspected(clean)["Architecture"]
    assert output(clean, "cat /f") == [
        architecture, f"linux/{architecture}", "default", "http://proxy.invalid", "http://proxy.invalid", "named",
    ]  # fmt: skip
    assert "proxy.invalid" not in "".join(created_by(clean))
    assert "proxy.invalid" not in str(inspected(clean))


@pytest.fixture
def server(tmp_path: Path):
    """The address of a server of the files in tmp_path/served."""
    directory = tmp_path / "served"
    directory.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_what_is_fetched(clean, build, server, tmp_path):
    write(tmp_path / "served", {"file.txt": "fetched"})
    repository = write(tmp_path / "served" / "r.git", {"d/inner": "i", "outer": "o"})
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "x"), ("update-server-info",)):
        subprocess.run(["git", "-c", "user.email=a@b", "-c", "user.name=a", *words], cwd=repository, check=True)
    digest = hashlib.sha256(b"fetched").hexdigest()
    build(
        f"FROM busybox\nARG at={server}\nADD $at/file.txt /as\n"
        f"ADD --checksum=sha256:{digest} --chmod=640 $at/file.txt /d/\n"
        "ADD $at/r.git/.git#main:d /git\nADD --keep-git-dir $at/r.git/.git /all/\n"
    )
    found = output(clean, "stat -c %a /as /d/file.txt; cat /d/file.txt; echo; cd /; find git all/outer all/.git/HEAD")
    assert found == ["600", "640", "fetched", "git", "git/inner", "all/outer", "all/.git/HEAD"]
    done = build(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {server}/file.txt /x\n", check=False)
    assert "Dockerfile:2: " in done.stderr and digest in done.stderr


def test_a_recipe_sets_its_own_times(clean, build):
    dockerfile = "ARG SOURCE_DATE_EPOCH=86400\nFROM busybox\nRUN echo x > /f\n"
    build(dockerfile, "--no-cache")
    first = inspected(clean)
    assert first["Created"].startswith("1970-01-02T00:00:00")
    build(dockerfile, "--no-cache")
    assert inspected(clean)["Id"] == first["Id"]
    assert output(clean, "stat -c %Y /f") == ["86400"]


@pytest.mark.parametrize(
    ("dockerfile", "line", "why"),
    [
        ("FROM busybox AS a\nCOPY --from=b /x /y\nFROM busybox AS b\nCOPY --from=a /x /y\n", 2, "circular dependency"),
        ("FROM busybox\nRUN --security=insecure true\n", 2, "--allow security.insecure"),
        ("FROM busybox AS a\nRUN --mount=from=b,target=/x true\nFROM busybox AS b\nFROM a\n", 2, "defined before"),
        ("FROM busybox\nADD --checksum=sha256:1 http://127.0.0.1:1/x /x\n", 2, "unsupported checksum"),
        ("FROM busybox\nRUN --mount=type=secret,id=none,required true\n", 2, "none"),
        ("FROM --platform=a/b/c/d busybox\n", 1, "failed to parse platform"),
        ("FROM --platform=linx busybox\n", 1, "failed to parse platform"),
    ],
)  # fmt: skip
def test_mistakes(build, dockerfile, line, why):
    done = build(dockerfile, check=False)
    assert done.returncode == 1
    message = done.stderr.rpartition("\nhooper: ")[2]
    assert f"Dockerfile:{line}: " in message and why in message, done.stderr


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("platform=nope", "platform"),
        ("platform=nope/x", "nope/x"),
        ("platform=windows/amd64", "windows/amd64"),
        ('securityopt=["nonsense"]', "security"),
        ("isolation=hyperv", "isolation"),
    ],
)  # fmt: skip
def test_what_could_have_no_effect_is_refused_by_both(either, query, why):
    """Without a step that would notice. dockerd tells of some in the middle of its answer, and not which."""
    content = context_tar({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    status, said = either.request("POST", f"/build?{quote(query, safe='=')}", content)
    assert status == 400 or "errorDetail" in str(said), said
    if isinstance(either, Hooper):
        assert status == 400 and why in said["message"], said


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("memory=1", "6MB"),
        ('ulimits=[{"Name":"x","Soft":1,"Hard":1}]', "ulimit"),
        ("cpusetcpus=x", "cpuset"),
        ("cpuperiod=1", "period"),
    ],
)  # fmt: skip
def test_limits_that_no_command_could_have(clean, query, why):
    content = context_tar({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    status, said = clean.request("POST", f"/build?{quote(query, safe='=')}", content)
    assert status == 400 and why in said["message"], said


def test_files_for_another_system(clean, build, tmp_path):
    """Of an image there is none, but a compiler makes files for it."""
    dockerfile = "FROM busybox AS made\nARG TARGETOS\nRUN echo $TARGETOS > /f\nFROM scratch\nCOPY --from=made /f /\n"
    dockerfile = dockerfile.replace("FROM busybox", "FROM --platform=$BUILDPLATFORM busybox")
    build(dockerfile, "--platform", "windows/amd64", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out" / "f").read_text() == "windows\n"
    done = build(dockerfile, "--platform", "windows/amd64", check=False)
    assert done.returncode == 1 and "cannot make an image for windows/amd64" in done.stderr
