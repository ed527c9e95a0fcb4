"""Builds through the docker client against a hooper daemon: what ends up in the image."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def build(clean, tmp_path):
    """Builds a Dockerfile with the files of a context; returns the finished process."""
    context = tmp_path / "context"
    context.mkdir()

    def run(dockerfile, *words, check=True, files=None):
        for name, content in (files or {}).items():
            path = context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        (context / "Dockerfile").write_text(dockerfile)
        return clean.docker("build", "-t", "built", *words, str(context), check=check)

    return run


def output(engine, *command, image="built"):
    return engine.docker("run", "--rm", image, *command).stdout


def image_config(engine, image="built"):
    return json.loads(engine.docker("image", "inspect", image).stdout)[0]


def top_layer(saved):
    """The names in the topmost layer of a saved image."""
    with tarfile.open(saved) as archive:
        manifest = json.loads(archive.extractfile("manifest.json").read())
        layer = archive.extractfile(manifest[0]["Layers"][-1]).read()
    with tarfile.open(fileobj=io.BytesIO(layer)) as names:
        return [name for name in names.getnames() if name not in ("", ".")]


def test_run_steps(clean, build):
    done = build("FROM busybox\nENV A=b\nRUN echo $A > /f; echo said\nUSER user\nWORKDIR /w\nRUN id -u; pwd\n")
    assert "\nsaid\n" in done.stdout
    assert "\n1000\n/w\n" in done.stdout
    assert "Successfully tagged built:latest" in done.stdout
    assert output(clean, "cat", "/f") == "b\n"
    names = {name for name in output(clean, "ls", "-a", "/").split() if name not in (".", "..")}
    assert names >= {"f", "w", "bin"}
    config = image_config(clean)
    assert config["Config"]["WorkingDir"] == "/w"
    assert len(config["RootFS"]["Layers"]) == 4


def test_layers_hold_nothing_of_the_engines_own(clean, build, tmp_path):
    build("FROM busybox\nRUN echo x > /only\n")
    saved = tmp_path / "saved.tar"
    clean.docker("image", "save", "-o", str(saved), "built")
    assert top_layer(saved) == ["only"]
    history = clean.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "built").stdout.splitlines()
    assert history[0] == "/bin/sh -c echo x > /only"


def test_the_same_build_is_cached_whole(clean, build):
    text = "FROM busybox\nENV a=b\nRUN echo x > /f\nCOPY g /g\nWORKDIR /new\n"
    build(text, files={"g": "1"})
    first = image_config(clean)["Id"]
    done = build(text)
    assert done.stdout.count("Using cache") == 4
    assert image_config(clean)["Id"] == first
    build(text, files={"g": "2"})
    assert image_config(clean)["Id"] != first
    assert output(clean, "cat", "/g") == "2"


def test_a_failing_run(clean, build):
    done = build("FROM busybox\nRUN echo said; exit 3\n", check=False)
    assert done.returncode != 0
    assert "The command '/bin/sh -c echo said; exit 3' returned a non-zero code: 3" in done.stderr
    assert clean.request("GET", "/containers/json?all=1")[1] == []


def test_a_mistake_names_file_and_line(clean, build):
    done = build("FROM busybox\n\nRNU x\n", check=False)
    assert done.returncode != 0
    assert "Dockerfile:3: dockerfile parse error on line 3: unknown instruction: RNU" in done.stderr
    assert "Did you mean RUN?" in done.stderr


def test_copies(clean, build):
    files = {"a": "A", "d/x": "X", "d/e/y": "Y", "d/skip.o": "O", ".dockerignore": "**/*.o\n"}
    build(
        "FROM busybox\nCOPY a /one\nCOPY a d/x /many/\nCOPY d /dir\nCOPY --chown=user:2000 --chmod=0600 a /owned\n"
        "COPY d/* /star/\nWORKDIR /w\nCOPY a .\nCOPY <<EOF /doc\nhello $PATH\nEOF\n",
        files=files,
    )
    script = (
        "cat /one /many/a /many/x /dir/x /dir/e/y /star/x /star/y /w/a /doc; stat -c '%u:%g %a' /owned /one; ls /dir"
    )
    assert output(clean, "sh", "-c", script) == "AAXXYXYAhello /bin\n1000:2000 600\n0:0 644\ne\nx\n"


def test_stages_and_images_are_copied_from(clean, build):
    build(
        "FROM busybox AS one\nRUN mkdir -p /o/p && echo 1 > /o/p/f && chown -R 5:6 /o\n"
        "FROM busybox AS unused\nRUN exit 1\n"
        "FROM scratch\nCOPY --from=busybox /bin /bin\nCOPY --from=one /o /copied\nCOPY --from=0 --chown=0 /o/p/f /f\n"
        'CMD ["sh"]\n'
    )
    script = "cat /copied/p/f /f; stat -c '%u:%g' /copied/p/f /f"
    assert output(clean, "/bin/sh", "-c", script) == "1\n1\n5:6\n0:0\n"


def test_add_unpacks_local_archives(clean, build):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("in/side")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"text"))
    build("FROM busybox\nADD a.tgz /un/\nCOPY a.tgz /kept/\n", files={"a.tgz": buffer.getvalue()})
    assert output(clean, "sh", "-c", "cat /un/in/side; ls /kept") == "texta.tgz\n"


def test_a_context_cannot_name_a_file_of_the_host(clean, build, tmp_path):
    (tmp_path / "secret").write_text("secret")
    context = tmp_path / "context"
    (context / "d").mkdir(parents=True, exist_ok=True)
    (context / "link").symlink_to(tmp_path / "secret")
    (context / "d" / "up").symlink_to("../../secret")
    for source in ("link", "d/up"):
        done = build(f"FROM busybox\nCOPY {source} /x\n", check=False)
        assert done.returncode != 0
        assert "secret" not in done.stdout


def test_triggers_labels_target_and_arguments(clean, build):
    build("FROM busybox\nONBUILD RUN echo trigger > /t\n", "-t", "parent")
    build(
        "ARG base=none\nFROM $base AS first\nARG v=0\nRUN echo $v > /v\nFROM busybox\nRUN exit 1\n",
        "--build-arg", "base=parent", "--build-arg", "v=7", "--label", "l=$1", "--target", "first",
    )  # fmt: skip
    assert output(clean, "cat", "/t", "/v") == "trigger\n7\n"
    assert image_config(clean)["Config"]["Labels"]["l"] == "$1"


def test_prune(clean, build):
    build("FROM busybox\nRUN echo prune-me > /f\n")
    clean.docker("image", "rm", "built")
    assert "Total" in clean.docker("builder", "prune", "-f").stdout
    done = build("FROM busybox\nRUN echo prune-me > /f\n")
    assert "Using cache" not in done.stdout
