"""The template language of --format."""

from __future__ import annotations

from typing import Any

import pytest

from hooper.cli.output import align, print_rows
from hooper.gotemplate.template import TemplateError, render
from hooper.gotemplate.values import typed

DATA: dict[str, Any] = {
    "Name": "web",
    "Up": True,
    "None": None,
    "Count": 3,
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"x.y": "z", "a": "<b>"}},
    "Mounts": [{"Source": "/a"}, {"Source": "/b"}],
    "Empty": [],
    "Label": lambda name: f"label-{name}",
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .Name }}-{{.Count}}", "web-3"),
        ("{{.Up}} {{.None}}", "true <no value>"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:<b> x.y:z]"),
        ("{{json .Config.Labels}}", '{"x.y":"z","a":"\\u003cb\\u003e"}'),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ('{{index .Config.Labels "x.y"}}', "z"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{(index .Mounts 0).Source}}", "/a"),
        ('{{join .Config.Env ","}}', "A=1,B=2"),
        ("{{.Name | upper}}", "WEB"),
        ("{{upper .Name | lower}}", "web"),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/a;/b;"),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}} {{end}}", "0=/a 1=/b "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "a:<b> x.y:z "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{$.Name}}{{end}}", "webweb"),
        ("{{if .Up}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}a{{else if .Up}}b{{else}}c{{end}}", "b"),
        ("{{if eq .Name `web`}}y{{end}}", "y"),
        ("{{if and .Up (gt .Count 2)}}y{{end}}", "y"),
        ("{{if not .Empty}}y{{end}}", "y"),
        ("{{with .Config}}{{len .Env}}{{end}}", "2"),
        ('{{$x := .Count}}{{$x}}{{printf "%s/%03d/%q" .Name $x "q"}}', '3web/003/"q"'),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* nothing */}}x", "x"),
        ('{{.Label "x"}}', "label-x"),
        ("{{println .Name}}", "web\n"),
        ("{{slice .Name 0 2}}", "we"),
        ("{{$n := 0}}{{range .Config.Env}}{{$n = len .}}{{end}}{{$n}}", "3"),
        ("{{range $i, $e := .Config.Env}}{{if $i}}{{break}}{{end}}{{$e}}{{end}}", "A=1"),
        ("{{range $i, $e := .Config.Env}}{{if not $i}}{{continue}}{{end}}{{$e}}{{end}}", "B=2"),
        ("{{range.Mounts}}{{.Source}}{{end}}", "/a/b"),
        ("{{with $x := .Count}}{{$x}}{{else}}none{{end}}", "3"),
        ("{{with .Empty}}a{{else with .Name}}{{.}}{{end}}", "web"),
        ("{{or .Empty .Name .Nosuch}}{{and .Empty .Nosuch}}", "web[]"),
        ('{{html `<a href="x">`}} {{urlquery `a b/c`}} {{js `it\'s`}}', "&lt;a href=&#34;x&#34;&gt; a+b%2Fc it\\'s"),
        ("{{printf `%T %T` .Name .Count}}", "string int"),
    ],
)
def test_renders_as_go_does(template: str, expected: str) -> None:
    assert render(template, DATA) == expected


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{.Name", "not closed"),
        ("{{nosuch .Name}}", 'function "nosuch" not defined'),
        ("{{if .Up}}x", "{{end}} is missing"),
        ("{{end}}", "unexpected"),
        ("{{.Nosuch}}", 'no field "Nosuch"'),
        ("{{.Name.First}}", "can be taken of web"),
        ("{{index .Mounts 7}}", "error calling index"),
        ("{{(.Name}}", "a ) is missing"),
        ("{{.Name |}}", "missing its value"),
        ("{{range .Name}}{{end}}", "iterate"),
        ("{{$x}}", "undefined variable"),
    ],
)
def test_says_what_is_wrong(template: str, why: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, DATA)
    assert why in str(caught.value)


def test_columns_are_as_wide_as_dockers() -> None:
    assert align([["ID", "NAMES"], ["0123456789ab", "x"]]) == ["ID             NAMES", "0123456789ab   x"]
    assert align([["A", "B"], ["1", "2"]]) == ["A         B", "1         2"]


INSPECTED = {
    "Id": "1",
    "State": {"Status": "running", "Pid": 7},
    "Config": {"Labels": {"a": "b"}, "Entrypoint": None, "Volumes": None},
    "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "81"}], "81/tcp": None}},
    "HostConfig": {"NanoCpus": 5, "OomKillDisable": None, "Binds": None},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.ID}}{{.HostConfig.NanoCPUs}}", "15"),
        ("{{.State}}", "{running 7}"),
        ("{{.NetworkSettings.Ports}}", "map[80/tcp:[{0.0.0.0 81}] 81/tcp:[]]"),
        (
            "{{.Config.Entrypoint}}{{.Config.Volumes}}{{.HostConfig.OomKillDisable}}{{.HostConfig.Binds}}",
            "[]map[]<nil>[]",
        ),
        ("{{json .Config.Entrypoint}}", "null"),
        ("{{if .State.Health}}a{{else}}b{{end}}{{.Config.Healthcheck}}", "b<nil>"),
        ("{{.Config.Labels.nosuch}}{{index .Config.Labels `nosuch`}}", "<no value>"),
        ("{{join .HostConfig.Binds `,`}}{{len .HostConfig.Binds}}{{range .HostConfig.Binds}}x{{end}}", "0"),
        ("{{eq .Config.Entrypoint nil}}", "true"),
    ],
)
def test_what_is_inspected_has_gos_types(template: str, expected: str) -> None:
    assert render(template, typed(INSPECTED)) == expected


def test_a_mistyped_field_is_still_one() -> None:
    with pytest.raises(TemplateError, match='no field "Nosuch"'):
        render("{{.State.Nosuch}}", typed(INSPECTED))


def test_headings_and_json_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"Name": "n", "Id": "1", "Label": lambda name: f"<{name}>"}]
    print_rows(rows, {"Name": "NAME", "Id": "ID"}, "{{.Id}}", r'table {{lower .Name}}\t{{.Label "com.x.the-key"}}')
    print_rows(rows, {}, "", "json")
    print_rows(rows, {"Id": "ID"}, "table {{.Id}}", "table")
    assert capsys.readouterr().out == 'NAME      the key\nn         <com.x.the-key>\n{"Id":"1","Name":"n"}\nID\n1\n'
