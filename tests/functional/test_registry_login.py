"""Login, logout and where credentials are kept: by hooper and by docker, each for the other."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from registry_server_support import htpasswd

pytestmark = pytest.mark.root
_HELPER = """#!{python}
import json, os, sys
place = {place!r}
known = json.load(open(place)) if os.path.exists(place) else {{}}
verb, text = sys.argv[1], sys.stdin.read()
with open(place + ".log", "a") as log:
    log.write(verb + "\\n")
if verb == "store":
    entry = json.loads(text)
    known[entry["ServerURL"]] = entry
elif verb == "get":
    if text.strip() not in known:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(known[text.strip()]))
elif verb == "erase":
    known.pop(text.strip(), None)
elif verb == "list":
    print(json.dumps({{url: entry["Username"] for url, entry in known.items()}}))
json.dump(known, open(place, "w"))
"""


class Client:
    """A user's home with credentials, and two command lines on one daemon."""

    def __init__(self, engine: support.Hooper, home: Path) -> None:
        self._engine, self.home = engine, home
        self.config = home / "docker" / "config.json"
        self.config.parent.mkdir(parents=True)
        self.keychain = home / "keychain"
        helper = home / "bin" / "docker-credential-fake"
        helper.parent.mkdir()
        helper.write_text(_HELPER.format(python=sys.executable, place=str(self.keychain)))
        helper.chmod(0o755)

    def run(self, program: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "DOCKER_CONFIG": str(self.config.parent),
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
        }
        command = ["docker"] if program == "docker" else [sys.executable, "-m", "hooper"]
        return subprocess.run(
            [*command, "-H", self._engine.address, *words],
            input=stdin, capture_output=True, text=True, env=environment, timeout=60, check=False,
        )  # fmt: skip

    def login(self, program: str, host: str, password: str = "secret") -> subprocess.CompletedProcess[str]:
        return self.run(program, "login", "-u", "ann", "--password-stdin", host, stdin=f"{password}\n")

    def settings(self) -> dict[str, Any]:
        return dict(json.loads(self.config.read_text()))


@pytest.fixture(scope="module")
def guarded(short_tmp: Path) -> Iterator[str]:
    with support.docker_registry(short_tmp / "guarded", htpasswd(ann="secret")) as host:
        yield host


@pytest.fixture
def client(engine: support.Hooper, tmp_path: Path) -> Client:
    return Client(engine, tmp_path)


@pytest.mark.parametrize(("first", "second"), [("hooper", "docker"), ("docker", "hooper")])
def test_what_one_keeps_the_other_uses(client: Client, guarded: str, first: str, second: str) -> None:
    image = f"{guarded}/{first}/app:1"
    done = client.login(first, guarded)
    assert done.returncode == 0 and "Login Succeeded" in done.stdout, done.stderr
    assert client.config.stat().st_mode & 0o077 == 0
    assert client.run(second, "tag", "busybox", image).returncode == 0
    pushed = client.run(second, "push", image)
    assert pushed.returncode == 0, pushed.stderr
    out = client.run(second, "logout", guarded)
    assert out.stdout == f"Removing login credentials for {guarded}\n"
    assert client.settings()["auths"] == {}
    refused = client.run(first, "push", image)
    assert refused.returncode == 1 and "push access denied" in refused.stderr
    client.run("hooper", "rmi", image)


@pytest.mark.parametrize("program", ["hooper", "docker"])
def test_a_wrong_password_is_refused_in_dockers_words(client: Client, guarded: str, program: str) -> None:
    done = client.login(program, guarded, "wrong")
    assert done.returncode == 1
    assert f"login attempt to http://{guarded}/v2/ failed with status: 401 Unauthorized" in done.stderr
    assert not client.config.exists() or not client.settings().get("auths")


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
@pytest.mark.parametrize(("first", "second"), [("hooper", "docker"), ("docker", "hooper")])
def test_a_helper_keeps_them(client: Client, guarded: str, setting: str, first: str, second: str) -> None:
    client.config.write_text(json.dumps({setting: "fake" if setting == "credsStore" else {guarded: "fake"}}))
    assert client.login(first, guarded).returncode == 0
    kept = json.loads(client.keychain.read_text())
    assert kept[guarded] | {"Username": "ann", "Secret": "secret"} == kept[guarded]
    assert "secret" not in client.config.read_text()
    image = f"{guarded}/{first}/{setting.lower()}:1"
    client.run(second, "tag", "busybox", image)
    pushed = client.run(second, "push", image)
    assert pushed.returncode == 0, pushed.stderr
    assert client.run(second, "logout", guarded).returncode == 0
    assert json.loads(client.keychain.read_text()) == {}
    client.run("hooper", "rmi", image)


def test_a_build_gets_all_that_a_store_lists(client: Client, guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hooper.cli import credentials

    monkeypatch.setenv("DOCKER_CONFIG", str(client.config.parent))
    monkeypatch.setenv("PATH", f"{client.home / 'bin'}:{os.environ['PATH']}")
    client.config.write_text(json.dumps({"credsStore": "fake"}))
    credentials.store("a.example", {"username": "ann", "password": "secret"})
    credentials.store("b.example", {"username": "ann", "identitytoken": "token"})
    client.config.write_text(json.dumps({"credsStore": "fake"}))
    found = credentials.everything()
    assert found["a.example"] == {"serveraddress": "a.example", "username": "ann", "password": "secret"}
    assert found["b.example"] == {"serveraddress": "b.example", "identitytoken": "token"}
    assert "list" in client.keychain.with_name("keychain.log").read_text().split()


def test_a_helper_that_is_missing_or_fails(client: Client, guarded: str) -> None:
    client.config.write_text(json.dumps({"credsStore": "absent"}))
    done = client.login("hooper", guarded)
    assert done.returncode != 0 and "cannot run the credential helper docker-credential-absent" in done.stderr
    broken = client.home / "bin" / "docker-credential-broken"
    broken.write_text("#!/bin/sh\necho the keyring is locked; exit 1\n")
    broken.chmod(0o755)
    client.config.write_text(json.dumps({"credsStore": "broken"}))
    done = client.run("hooper", "pull", f"{guarded}/app:1")
    assert done.returncode != 0 and "docker-credential-broken failed at get: the keyring is locked" in done.stderr


def test_an_address_as_old_versions_kept_it(client: Client, guarded: str) -> None:
    pair = base64.b64encode(b"ann:secret").decode()
    client.config.write_text(json.dumps({"auths": {f"https://{guarded}/v1/": {"auth": pair}}}))
    done = client.run("hooper", "pull", f"{guarded}/none:1")
    assert "manifest unknown" in done.stderr
    client.config.write_text(json.dumps({"auths": {guarded: {"auth": "?"}}}))
    done = client.run("hooper", "pull", f"{guarded}/none:1")
    assert done.returncode != 0 and "Log in again" in done.stderr


@pytest.mark.parametrize("program", ["hooper", "docker"])
def test_search_where_there_is_a_catalogue_alone(client: Client, guarded: str, program: str) -> None:
    client.login(program, guarded)
    image = f"{guarded}/findable/{program}:1"
    client.run("hooper", "tag", "busybox", image)
    assert client.run(program, "push", image).returncode == 0
    client.run("hooper", "rmi", image)
    term = f"{guarded}/findable"
    done = client.run(program, "search", "--format", "{{.Name}} {{.StarCount}}", term)
    assert f"{guarded}/findable/{program} 0" in done.stdout.splitlines(), done.stderr
    done = client.run(program, "search", "--filter", "stars=1", "--format", "{{.Name}}", term)
    assert (done.returncode, done.stdout) == (0, "")
    done = client.run(program, "search", "--filter", "odd=1", term)
    assert done.returncode == 1 and "invalid filter" in done.stderr.lower()
    assert client.run(program, "search", "--limit", "101", term).returncode == 1
