"""The values of `hooper build`'s flags: what buildx reads is read, and what cannot be names flag, value and cause."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hooper.cli import build_flags as flags
from hooper.cli import build_outputs
from hooper.cli.build_flags import Cache, Context, Secret
from hooper.cli.build_outputs import Output
from hooper.cli.errors import BadFlag
from hooper.cli.main import run
from hooper.cli.session import Session
from hooper.client.address import parse_address
from hooper.client.api import ApiClient


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "t")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(os, "isatty", lambda _fd: False)
    for name in ("directory", "layout"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("secret")
    (tmp_path / "layout" / "index.json").write_text("{}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out", Output("local", {}, "out")),
        ("-", Output("tar", {}, "-")),
        ("type=local,dest=out", Output("local", {}, "out")),
        ("type=tar,dest=out.tar", Output("tar", {}, "out.tar")),
        ("type=tar", Output("tar", {}, "-")),
        ("type=oci,dest=x.tar,name=a:1", Output("oci", {"name": "a:1"}, "x.tar")),
        ("type=oci,dest=new,tar=0", Output("oci", {"tar": "false"}, "new")),
        ("type=docker", Output("image", {})),
        ("type=docker,dest=d.tar", Output("docker", {}, "d.tar")),
        ('type=image,"name=a:1,b:2",push=True', Output("image", {"name": "a:1,b:2", "push": "true"})),
        ("TYPE=Image,name=a", Output("image", {"name": "a"})),
        ("type=registry,name=r.example/a", Output("image", {"name": "r.example/a", "push": "true"})),
    ],
)
def test_an_output(text: str, expected: Output) -> None:
    assert build_outputs.outputs([text], [], push=False, load=False) == [expected]


def test_push_and_load() -> None:
    def outputs(*items: str, push: bool = False, load: bool = False) -> list[Output]:
        return build_outputs.outputs(items, ["a:1"], push=push, load=load)

    pushed = Output("image", {"push": "true"})
    assert outputs() == []
    assert outputs(push=True) == outputs(push=True, load=True) == outputs("type=image", push=True) == [pushed]
    assert outputs("type=image,push=false", push=True) == [pushed]
    assert outputs(load=True) == [Output("image", {})]
    assert outputs("out", load=True) == [Output("local", {}, "out"), Output("image", {})]
    assert outputs("type=docker", load=True) == [Output("image", {})]


def wrong_outputs(text: str) -> Any:
    return build_outputs.outputs([text], ["a:1"], push=False, load=False)


def cache_from(text: str) -> Any:
    return flags.caches("--cache-from", [text])


def cache_to(text: str) -> Any:
    return flags.caches("--cache-to", [text])


def secret(text: str) -> Any:
    return flags.secrets([text])


def ssh(text: str) -> Any:
    return flags.agents([text])


def context(text: str) -> Any:
    return flags.contexts([text])


@pytest.mark.parametrize(
    ("read", "flag", "text", "cause"),
    [
        (wrong_outputs, "--output", "", "it is empty"),
        (wrong_outputs, "--output", "dest=x", "the type is missing"),
        (wrong_outputs, "--output", "type=zip,dest=x", '"zip" is none of image'),
        (wrong_outputs, "--output", "type=local", "dest, the directory that it goes to, is missing"),
        (wrong_outputs, "--output", "type=local,dest=-", "dest, the directory that it goes to, is missing"),
        (wrong_outputs, "--output", "type=local,dest=file", "file is not a directory"),
        (wrong_outputs, "--output", "type=tar,dest=directory", "directory is a directory"),
        (wrong_outputs, "--output", "type=image,dest=x", "has no dest"),
        (wrong_outputs, "--output", "type=image,push=maybe", 'push is "maybe"'),
        (wrong_outputs, "--output", "type=tar,out.tar", '"out.tar" is not KEY=VALUE'),
        (wrong_outputs, "--output", 'type=image,"name=a', "it is not a line of comma-separated fields"),
        (cache_from, "--cache-from", "ref=x", "the type is missing"),
        (cache_from, "--cache-from", "type=gha", '"gha" is none of registry, local'),
        (cache_from, "--cache-from", "type=inline", "an inline cache is part of an image"),
        (cache_from, "--cache-from", "type=registry", "ref, the name in the registry, is missing"),
        (cache_from, "--cache-from", "type=registry,ref=UPPER", "must be lowercase"),
        (cache_from, "--cache-from", "UPPER", "must be lowercase"),
        (cache_from, "--cache-from", "type=local", "src, the directory, is missing"),
        (cache_from, "--cache-from", "type=local,dest=x", "src, the directory, is missing"),
        (cache_to, "--cache-to", "type=local,dest=file", "file is not a directory"),
        (cache_to, "--cache-to", "type=registry,ref=a,mode=most", "neither min nor max"),
        (secret, "--secret", "", "it is empty"),
        (secret, "--secret", "token", '"token" is not KEY=VALUE'),
        (secret, "--secret", "src=file", "the id is missing"),
        (secret, "--secret", "id=a,source=nosuch", "nosuch is not a file"),
        (secret, "--secret", "id=a,src=directory", "directory is not a file"),
        (secret, "--secret", "id=a,env=NOT_SET_AT_ALL", "the variable NOT_SET_AT_ALL is not set"),
        (secret, "--secret", "id=a,env=TOKEN,src=file", "a file or a variable, not both"),
        (secret, "--secret", "id=a,type=vault", "neither file nor env"),
        (secret, "--secret", "id=a,scr=file", '"scr" is none of id, src'),
        (ssh, "--ssh", "default", "SSH_AUTH_SOCK is not set"),
        (ssh, "--ssh", "default=", "it is not ID or ID=PATH"),
        (ssh, "--ssh", "=x", "it is not ID or ID=PATH"),
        (ssh, "--ssh", "k=nosuch", "nosuch: No such file"),
        (ssh, "--ssh", "k=file,agent", "one agent or several keys"),
        (context, "--build-context", "name", "it is not NAME=PATH"),
        (context, "--build-context", "=directory", "it is not NAME=PATH"),
        (context, "--build-context", "UPPER=directory", '"UPPER" is no name'),
        (context, "--build-context", "a=nosuch", "nosuch is not a directory"),
        (context, "--build-context", "a=s3://bucket", 'the scheme "s3" is not known'),
        (context, "--build-context", "a=docker-image://UPPER", "must be lowercase"),
        (context, "--build-context", "a=oci-layout://directory:1", "it has no index.json"),
    ],
)
def test_what_cannot_be(read: Callable[[str], Any], flag: str, text: str, cause: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("agent")
        with pytest.raises(BadFlag) as caught:
            read(text)
    message = str(caught.value)
    assert message.startswith(f'invalid argument "{text}" for {flag}: ')
    assert cause in message
    assert "\nFor example: --" in message


@pytest.mark.parametrize(
    ("items", "push", "cause"),
    [
        (["-", "type=oci"], False, "only one output fits stdout"),
        (["out"], True, "this output cannot be pushed"),
        ([], True, "an image without a name cannot be pushed"),
        (["type=registry"], False, "an image without a name cannot be pushed"),
    ],
)
def test_outputs_that_do_not_go_together(items: list[str], push: bool, cause: str) -> None:
    with pytest.raises(BadFlag, match=cause):
        build_outputs.outputs(items, [], push=push, load=False)


def test_an_archive_is_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _fd: True)
    with pytest.raises(BadFlag, match="no text for a terminal"):
        build_outputs.outputs(["-"], [], push=False, load=False)


def test_caches() -> None:
    given = ["a/b:1,c", "type=registry,ref=r.example/x", "type=local,src=directory,tag=v"]
    assert flags.caches("--cache-from", given) == [
        Cache("registry", {"ref": "a/b:1"}),
        Cache("registry", {"ref": "c"}),
        Cache("registry", {"ref": "r.example/x"}),
        Cache("local", {"tag": "v"}, "directory"),
    ]
    assert flags.caches("--cache-to", ["type=inline", "type=local,dest=new,mode=max", "a/b"]) == [
        Cache("inline", {}),
        Cache("local", {"mode": "max"}, "new"),
        Cache("registry", {"ref": "a/b"}),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=a,src=file", Secret("file")),
        ("id=a,source=file,type=file", Secret("file")),
        ("id=a,env=TOKEN", Secret("", "TOKEN")),
        ("id=a,type=env,src=TOKEN", Secret("", "TOKEN")),
        ("type=env,id=TOKEN", Secret("", "TOKEN")),
        ("id=TOKEN", Secret("", "TOKEN")),
        ("id=file", Secret("file")),
    ],
)
def test_a_secret(text: str, expected: Secret) -> None:
    assert list(flags.secrets([text]).values()) == [expected]


def test_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("agent")
        monkeypatch.setenv("SSH_AUTH_SOCK", "agent")
        assert flags.agents(["default", "keys=file,file", "mine=agent"]) == {
            "default": ("agent",),
            "keys": ("file", "file"),
            "mine": ("agent",),
        }


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("src=directory", "src", Context("local", "", "directory")),
        ("debian:latest=docker-image://debian:12", "debian", Context("image", "debian:12")),
        ("docker.io/library/debian:12=docker-image://r.example/d", "debian:12", Context("image", "r.example/d")),
        ("a=oci-layout://layout", "a", Context("oci-layout", "", "layout")),
        ("a=oci-layout://layout:v1", "a", Context("oci-layout", "v1", "layout")),
        ("a=https://h.example/x.tar", "a", Context("url", "https://h.example/x.tar")),
        ("a=https://h.example/x.git#main:sub", "a", Context("git", "https://h.example/x.git#main:sub")),
        ("a=git@h.example:x", "a", Context("git", "git@h.example:x")),
        ("a=github.com/x/y", "a", Context("git", "github.com/x/y")),
    ],
)
def test_a_context(text: str, name: str, expected: Context) -> None:
    assert flags.contexts([text]) == {name: expected}


def test_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags.annotated(["a=1", "manifest:b=x:y", "manifest[linux/amd64]:c="]) == {"a": "1", "b": "x:y", "c": ""}
    assert flags.entitlements(["network.host", "fs.read=/x", "fs=*"]) == ["network.host"]
    assert flags.arguments(["A=1=2", "TOKEN", "NOT_SET_AT_ALL"]) == {"A": "1=2", "TOKEN": "t", "NOT_SET_AT_ALL": None}
    assert flags.stages(["a,b", "c"]) == ["a", "b", "c"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert flags.source_date_epoch() == 1700000000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(Exception, match="not a number of seconds"):
        flags.source_date_epoch()
    wrong: list[tuple[Callable[[list[str]], Any], str]] = [
        (flags.annotated, "index:a=1"), (flags.annotated, "a"), (flags.entitlements, "all"),
        (flags.arguments, "=x"), (flags.stages, "a,,b"),
    ]  # fmt: skip
    for read, text in wrong:
        with pytest.raises(BadFlag, match="For example: --"):
            read([text])


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("builder du --filter size=1", '"size" is none of description, id'),
        ("builder du --filter type", "it is not KEY=VALUE"),
        ("builder du --filter until=soon", "it is not a duration"),
        ("builder du --filter description~=(", "is no regular expression"),
        ("builder prune -f --max-used-space much", "it is not a number with one of the suffixes"),
        ("build --progress loud .", "it is none of auto, plain"),
        ("build --provenance=max .", "hooper attaches no attestations"),
        ("build --call outline .", "it is none of build, check"),
        ("build --trace no/such/file .", "cannot be written to"),
        ("build --memory much .", "it is not a number with one of the suffixes"),
        ("build -f - -", "stdin is the context already"),
        ("build -f - https://h.example/x.git", "a context from elsewhere has its own Dockerfile"),
    ],
)
def test_what_a_command_refuses_at_once(
    words: str, cause: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers at the address, and nobody is asked."""
    monkeypatch.setattr(ApiClient, "version", (1, 50))
    monkeypatch.setattr(Session, "client", ApiClient(parse_address("unix:///nonexistent")))
    monkeypatch.setenv("HOOPER_HOST", "unix:///nonexistent")
    assert run(words.split()) == 125
    assert cause in capfd.readouterr().err
