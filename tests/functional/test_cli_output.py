"""What docker's and hooper's command lines print of one engine: the same, but for what is each one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cli_support import InProcess, Terminal

import support

pytestmark = pytest.mark.root
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Furnished:
    """An engine, and both command lines for it."""

    docker: Run
    hooper: Run


@pytest.fixture
def furnished(either: support.Engine, capfd: pytest.CaptureFixture[str]) -> Iterator[Furnished]:
    """An engine with a container that runs, one that was created, a volume, and one image: those that other tests
    have left in one second dockerd lists in any order."""
    either.docker("volume", "create", "--label", "k=v", "cli-volume")
    flags = ("-p", "127.0.0.1::80", "-l", "com.example.the-name=b", "-l", "z=y", "-v", "cli-volume:/data")
    either.docker("run", "-d", "--name", "up", *flags, "busybox", "sleep", "1000")
    either.docker("create", "--name", "down", "busybox", "true")
    either.docker("image", "prune", "-af")
    yield Furnished(either.docker, InProcess(either.address, capfd))
    either.clear()
    either.docker("volume", "rm", "cli-volume")


Shown = tuple[tuple[str, ...], int, str]
"""The words of a command, its exit code and its output."""


def both(engine: Furnished, *words: str) -> tuple[Shown, Shown]:
    """What hooper's command line and docker's show; once more if perhaps a second went by in between."""
    for _ in range(8):
        expected, found = (run(*words, check=False) for run in (engine.docker, engine.hooper))
        if found.stdout == expected.stdout:
            break
    return (words, found.returncode, found.stdout), (words, expected.returncode, expected.stdout)


def test_tables(furnished: Furnished) -> None:
    for words in (
        "ps -a", "ps -aq", "ps -as", "ps -l", "ps -n 1", "ps --no-trunc", "ps --filter name=up --filter label=z=y",
        "ps -a --filter status=created", "container ls -a", "container ps", "images", "images --digests",
        "images -q --no-trunc", "image ls busybox", "images nosuch", "history busybox", "history -q busybox",
        "history -H=false busybox", "network ls --filter driver=bridge", "network ls -q --no-trunc", "volume ls",
        "volume ls -q", "volume list --filter label=k=v", "system df", "port up", "port up 80", "port up 81", "top up",
        "top up -o pid", "logs up", "wait nosuch",
    ):  # fmt: skip
        ours, theirs = both(furnished, *words.split())
        assert ours == theirs


def test_json_and_all_fields(furnished: Furnished) -> None:
    fields = {
        ("ps", "-a"): "ID Image Command CreatedAt RunningFor Ports State Status Size Names Labels Mounts Networks "
        "LocalVolumes Platform",
        (
            "images",
        ): "Repository Tag ID Digest CreatedSince CreatedAt Size Containers SharedSize UniqueSize VirtualSize",
        ("history", "busybox"): "ID CreatedSince CreatedAt CreatedBy Size Comment",
        ("network", "ls"): "ID Name Driver Scope IPv4 IPv6 Internal Labels CreatedAt",
        ("volume", "ls"): "Name Driver Scope Mountpoint Labels Links Size Group Availability Status",
        ("system", "df"): "Type TotalCount Active Size Reclaimable",
        ("stats", "--no-stream", "down"): "Container Name ID CPUPerc MemUsage NetIO BlockIO MemPerc PIDs",
    }
    for words, names in fields.items():
        every = [f"{{{{.{name}}}}}" for name in names.split()]
        for wanted in ("json", "|".join(every), "table " + r"\t".join(every)):
            ours, theirs = both(furnished, *words, "--format", wanted)
            assert ours == theirs
        row = json.loads(furnished.hooper(*words, "--format", "json").stdout.splitlines()[0])
        assert set(row) == set(names.split()), words


def test_templates(furnished: Furnished) -> None:
    for words in (
        ("ps", "--format", 'table {{.ID}}\\t{{.Label "com.example.the-name"}}\\t{{upper .Names}}'),
        ("ps", "--format", '{{.Names | printf "%-8s|"}}{{.Label "z"}}{{.Label "nosuch"}}'),
        ("ps", "--format", "{{.Nosuch}}"),
        ("ps", "--format", "{{.ID"),
        ("ps", "--format", "{{nosuch .ID}}"),
        ("inspect", "-f", "{{.NetworkSettings.Ports}} {{.HostConfig.PortBindings}}", "up"),
        ("inspect", "-f", "{{.Config.Env}} {{.Config.Entrypoint}} {{.HostConfig.Binds}} {{.ExecIDs}}", "up"),
        ("inspect", "-f", "{{.Config.Labels}} {{.Config.Labels.z}} {{index .Config.Labels `z`}}", "up"),
        ("inspect", "-f", '{{index .Config.Labels "nosuch"}}|{{.Config.Labels.nosuch}}|', "up"),
        ("inspect", "-f", "{{json .Config.Cmd}}{{json .Config.Entrypoint}}{{json .NetworkSettings.Ports}}", "up"),
        ("inspect", "-f", "{{if .State.Health}}a{{else}}b{{end}}{{.Config.Healthcheck}}{{.SizeRw}}", "up"),
        ("inspect", "-f", "{{range .Mounts}}{{.Type}}:{{.Destination}}{{println}}{{end}}", "up"),
        ("inspect", "-f", "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{(index $c 0).HostIp}}{{end}}", "up"),
        ("inspect", "-f", "{{with .State}}{{.Status}}{{if and .Running (not .Paused)}}!{{end}}{{end}}", "up"),
        ("inspect", "-f", "{{$n := 0}}{{range .Config.Env}}{{$n = len .}}{{end}}{{$n}}", "up"),
        ("inspect", "-f", '{{range .Config.Env}}{{break}}{{end}}{{slice .Name 1 3}}{{title "ab cd"}}', "up"),
        ("inspect", "-f", '{{join (split .Name "u") "+"}}{{truncate .Id 4}}{{pad "x" 1 2}}|{{lower "A"}}', "up"),
        ("inspect", "-f", '{{printf "%s %d %v %t %q %x %5.2f" .Name 3 true false "q" 255 1.5}}', "up"),
        ("inspect", "-f", "{{lt 1 2}}{{le 2 2}}{{gt 1 2}}{{ge 1 2}}{{eq 1 2 1}}{{ne 1 2}}{{or 0 7}}{{and 1 0}}", "up"),
        ("inspect", "-f", "{{.ID}} {{.HostConfig.NanoCPUs}}", "up"),
        ("inspect", "-f", "{{.Id}} {{.HostConfig.NanoCpus}}", "up"),
        ("inspect", "-f", "{{html `<a>`}}{{urlquery `a b&c`}}{{js `it's`}}{{print 1 `a` 2}}", "up"),
        ("inspect", "-f", "{{- /* c */ -}} x {{- .Name -}} y", "up"),
        ("inspect", "--format", "json", "busybox"),
        ("image", "inspect", "-f", "{{.RepoTags}} {{.Config.Cmd}} {{.Os}}", "busybox"),
        ("network", "inspect", "-f", "{{range.IPAM.Config}}{{.Subnet}}{{end}} {{.Options}}", "host"),
        ("volume", "inspect", "-f", "{{.Labels}} {{.Mountpoint}}", "cli-volume"),
        ("version", "--format", "{{.Server.Os}} {{.Client.APIVersion}} {{.Server.APIVersion}} {{.Client.Context}}"),
        ("info", "--format", "{{.NCPU}} {{.ClientInfo.Context}} {{len .Runtimes}}"),
    ):
        ours, theirs = both(furnished, *words)
        assert ours == theirs


def test_inspect_of_several_things(furnished: Furnished) -> None:
    for words in (
        "inspect down busybox host cli-volume", "inspect -f {{.Id}} down nosuch busybox", "inspect nosuch",
        "inspect --type image down", "container inspect down", "volume inspect cli-volume nosuch",
    ):  # fmt: skip
        ours, theirs = both(furnished, *words.split())
        assert ours == theirs


def test_codes_of_failures(furnished: Furnished) -> None:
    for words in (
        "nosuch", "container nosuch", "ps --nosuch", "ps extra", "ps --filter x", "ps --filter status=nosuch", "rm",
        "rm nosuch", "rmi nosuch", "stop nosuch", "kill -s NOSUCH up", "wait nosuch", "pause down", "unpause down",
        "rename nosuch x", "network rm nosuch", "volume rm nosuch", "volume rm cli-volume", "tag nosuch x",
        "exec up nosuch", "exec up false", "exec nosuch true", "exec down true", "exec", "run",
        "run --nosuch busybox", "run --rm busybox nosuch", "run --memory 1x busybox", "run --name up busybox",
        "run -p 99999:80 busybox", "run --rm -d --restart always busybox", "run --restart foo busybox",
        "run --pull foo busybox", "run -it busybox", "run -a foo busybox", "run --cpus foo busybox",
        "run -e =x busybox", "run --env-file /nosuch busybox", "run --cidfile /etc/passwd busybox",
        "run --ulimit x busybox", "run --mount type=foo busybox", "run --no-healthcheck --health-cmd x busybox",
        "run --pull never nosuch", "run --network nosuch busybox", "update up", "cp nosuch:/x /tmp", "cp",
        "attach nosuch", "attach down", "commit nosuch", "export nosuch", "load -i /nosuch", "events --until foo",
        "events --filter x", "logs nosuch", "logs --since foo up", "stats --no-stream nosuch", "top nosuch",
        "top down", "port nosuch", "diff nosuch", "build /nosuch", "system prune --filter x", "login a b",
        "pull UPPER", "network create", "network connect x",
    ):  # fmt: skip
        expected, found = (run(*words.split(), check=False) for run in (furnished.docker, furnished.hooper))
        assert (words, found.returncode) == (words, expected.returncode), found.stderr
        if found.returncode and words not in ("exec up false", "exec up nosuch"):
            assert "hooper: " in found.stderr


def test_a_name_that_is_nearly_right(furnished: Furnished) -> None:
    furnished.docker("rename", "up", "web-server")
    for words, hint in (
        ("stop web-servr", "Did you mean web-server?"),
        ("logs Web-Server", "Did you mean web-server?"),
        ("run --pull never busibox", "Did you mean busybox?"),
        ("volume inspect cli-volumes", "Did you mean cli-volume?"),
        ("inspect web-sever", 'Did you mean the container "web-server"?'),
        ("network inspect hots", "Did you mean host?"),
        ("contaner ls", 'Did you mean "container"?'),
        ("ps --fliter x", "Did you mean --filter?"),
    ):
        done = furnished.hooper(*words.split(), check=False)
        assert done.returncode != 0
        assert hint in done.stderr
    assert "mean" not in furnished.hooper("stop", "quite-different", check=False).stderr


def test_colours_are_for_terminals(clean: support.Hooper) -> None:
    program = [sys.executable, "-m", "hooper", "-H", clean.address, "rm", "nosuch"]
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        terminal = Terminal(program, {**plain, "TERM": "xterm", **variables})
        assert terminal.wait() == 1
        assert (b"\x1b[" in terminal.seen) == coloured
    assert "\x1b" not in subprocess.run(program, capture_output=True, text=True, check=False, timeout=60).stderr
