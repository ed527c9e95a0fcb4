"""The builder of the examples, installed as a stranger's plugin is: another language, the same engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Hooper, context_tar

pytestmark = pytest.mark.root
pytest.importorskip("hooper_builder_recipe")

RECIPE = """
from = "busybox"
workdir = "/srv"
env = { GREETING = "hello" }
cmd = ["cat", "page", "a"]

[[step]]
copy = ["a", "b"]
to = "/srv/"

[[step]]
copy = ["/out/page"]
from = "pages"

[[step]]
run = "echo $GREETING >> page; date +%s%N >> /cache/runs"
cache = ["/cache"]

[stage.pages]
from = "busybox"

[[stage.pages.step]]
run = "mkdir /out; echo from pages > /out/page"

[stage.unused]
from = "127.0.0.1:1/nowhere"
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name, content in {"image.toml": RECIPE, "a": "a\n", "b": "b\n", "ignored": "x"}.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def own(clean: Hooper) -> Iterator[Hooper]:
    yield clean
    clean.docker("rmi", "-f", "toml", check=False)


@pytest.mark.parametrize("program", ["docker", "hooper"])
def test_it_builds_and_finds_all_again(own: Hooper, context: Path, program: str) -> None:
    own.request("POST", "/build/prune?all=1")
    build = own.docker if program == "docker" else own.hooper
    words = ("build", "-t", "toml", "-f", str(context / "image.toml"), "--label", "by=test", str(context))
    build(*words)
    first = json.loads(own.docker("image", "inspect", "toml").stdout)[0]
    assert own.docker("run", "--rm", "toml").stdout == "from pages\nhello\na\n"
    assert first["Config"]["Labels"] == {"by": "test"} and first["Config"]["WorkingDir"] == "/srv"
    assert first["Config"]["Env"] == ["PATH=/bin", "GREETING=hello"]
    said = build(*words)
    again = json.loads(own.docker("image", "inspect", "toml").stdout)[0]
    assert again["Id"] == first["Id"]
    cached = said.stdout.count(" ---> Using cache") if program == "docker" else said.stderr.count(" CACHED")
    assert cached == 5, said
    history = own.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "toml").stdout.splitlines()
    assert history[:3] == ["run echo $GREETING >> page; date +%s%N >> /cache/runs", "copy /out/page", "copy a b"]


def test_a_target_and_no_cache(own: Hooper, context: Path) -> None:
    own.hooper("build", "-t", "toml", "-f", str(context / "image.toml"), "--target", "pages", str(context))
    assert own.docker("run", "--rm", "toml", "cat", "/out/page").stdout == "from pages\n"
    said = own.hooper(
        "build", "--no-cache", "-t", "toml", "-f", str(context / "image.toml"), "--target", "pages", str(context)
    ).stderr
    assert "CACHED" not in said


MISTAKES = {
    "not TOML": ("from = \n", "image.toml:1: "),
    "unknown word": ('from = "busybox"\nwrokdir = "/"\n', "wrokdir"),
    "missing file": ('from = "busybox"\n\n[[step]]\ncopy = ["nothing"]\n', "image.toml:3: "),
    "unknown stage": ('from = "busybox"\n[[step]]\ncopy = ["a"]\nfrom = "nobody"\n', "image.toml:2: "),
    "circle": ('from = "one"\n[stage.one]\nfrom = "one"\n', "image.toml:2: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(own: Hooper, context: Path, mistake: str) -> None:
    recipe, text = MISTAKES[mistake]
    (context / "image.toml").write_text(recipe)
    for build in (own.docker, own.hooper):
        done = build("build", "-f", str(context / "image.toml"), str(context), check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert done.stderr.rpartition("\nhooper: ")[2].count(text) == 1, done.stderr


def test_a_command_that_fails(own: Hooper, context: Path) -> None:
    (context / "image.toml").write_text('from = "busybox"\n[[step]]\nrun = "echo last words; exit 7"\n')
    done = own.hooper("build", "-f", str(context / "image.toml"), str(context), check=False)
    assert done.returncode == 7 and "last words" in done.stderr and "image.toml:2" in done.stderr


def test_it_is_there_and_the_other_is_taken_without_a_name(own: Hooper, context: Path) -> None:
    listed = [line.split() for line in own.hooper("plugin", "ls").stdout.splitlines()]
    assert {"recipe", "dockerfile"} <= {word for line in listed for word in line}
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo by docker\n")
    assert "RUN echo by docker" in own.docker("build", str(context)).stdout
    status, content = own.request("POST", "/build", context_tar({"recipe.toml": RECIPE}))
    assert status == 404 and "Dockerfile" in content["message"]


def test_it_can_be_asked_for_by_name(own: Hooper) -> None:
    body = context_tar({"recipe.toml": 'from = "busybox"\n[[step]]\nrun = "echo by name"\n'})
    status, said = own.request("POST", "/build?hooper=%7B%22builder%22%3A%22recipe%22%7D", body)
    assert status == 200 and "by name" in str(said) and "errorDetail" not in str(said)
