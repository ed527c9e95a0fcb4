"""The template language of --format."""

from __future__ import annotations

from typing import Any

import pytest

from hooper.cli.output import align
from hooper.cli.template import TemplateError, render

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
