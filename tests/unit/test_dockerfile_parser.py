"""From text to instructions, and what the parser says of text that is none."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile import instructions as ins
from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.mounts import Mount, parse_mount, resolve
from hooper_builder_dockerfile.parser import parse, parse_one
from hooper_builder_dockerfile.ports import exposed
from hooper_builder_dockerfile.printing import print_recipe
from hooper_builder_dockerfile.runs import command

HOUR = 3600 * 10**9


def one(text):
    return parse(f"FROM x\n{text}\n").instructions[1]


ROWS = [
    # FROM
    ("FROM img", {"image": "img", "name": "", "platform": ""}),
    ("from --platform=linux/arm64 img:1 As Base", {"image": "img:1", "name": "base", "platform": "linux/arm64"}),
    ("FROM --platform=$BUILDPLATFORM img", {"platform": "$BUILDPLATFORM"}),
    ("FROM h:5000/a/b@sha256:0 AS a-b_c.1", {"image": "h:5000/a/b@sha256:0", "name": "a-b_c.1"}),
    ("FROM\timg\tAS\tx", {"image": "img", "name": "x"}),
    ("FROM ${x:-img}", {"image": "${x:-img}"}),
    # ARG, ENV, LABEL
    ("ARG a", {"arguments": (("a", None),)}),
    ("ARG a b=c d=", {"arguments": (("a", None), ("b", "c"), ("d", ""))}),
    ("ARG a=\"b c\" d='e f'", {"arguments": (("a", '"b c"'), ("d", "'e f'"))}),
    ("ARG a=b=c", {"arguments": (("a", "b=c"),)}),
    ("ENV a=b", {"pairs": (("a", "b"),), "legacy": False}),
    ('ENV a=b c="d e" f\\ g=1', {"pairs": (("a", "b"), ("c", '"d e"'), ("f\\ g", "1"))}),
    ("ENV a= b=", {"pairs": (("a", ""), ("b", ""))}),
    ("ENV a=$b c=${d:-e f}", {"pairs": (("a", "$b"), ("c", "${d:-e"))}, "can't find ="),
    ("ENV x y", {"pairs": (("x", "y"),), "legacy": True}),
    ("ENV x y  z $a", {"pairs": (("x", "y  z $a"),), "legacy": True}),
    ("ENV x   y=z", {"pairs": (("x", "y=z"),), "legacy": True}),
    ("ENV a=b \\\n    c=d", {"pairs": (("a", "b"), ("c", "d"))}),
    ('ENV a="open b', {"pairs": (("a", '"open b'),)}),
    ("LABEL k v w", {"pairs": (("k", "v w"),), "legacy": True}),
    ('LABEL "m n"=2 a.b=c=d', {"pairs": (('"m n"', "2"), ("a.b", "c=d"))}),
    ("LABEL größe='x ÿ'", {"pairs": (("größe", "'x ÿ'"),)}),
    # RUN, CMD, ENTRYPOINT
    ("RUN echo  'a b'", {"args": ("echo  'a b'",), "shell_form": True}),
    ('RUN ["a", "b c"]', {"args": ("a", "b c"), "shell_form": False}),
    ("RUN ['a']", {"args": ("['a']",), "shell_form": True}),
    ("RUN [ -f x ] && y", {"args": ("[ -f x ] && y",), "shell_form": True}),
    ("RUN [[ -f x ]]", {"args": ("[[ -f x ]]",), "shell_form": True}),
    ('RUN ["a",]', {"args": ('["a",]',), "shell_form": True}),
    ('RUN ["a"] x', {"args": ('["a"] x',), "shell_form": True}),
    ("RUN [NaN]", {"args": ("[NaN]",), "shell_form": True}),
    (f"RUN {'[' * 100_000}", {"shell_form": True}),
    ('RUN [ "\\u00e9", "\\ud83d\\ude00", "\\ud800" ]', {"args": ("é", "😀", "\ufffd")}),
    ("run x", {"args": ("x",)}),
    ("RUN -- --x", {"args": ("--x",)}),
    ("RUN --network=none x", {"args": ("x",), "network": "none"}),
    ("RUN --network=host x", {"network": "host"}),
    ("RUN --network=default x", {"network": ""}),
    ("RUN --network=my-net x", {"network": "my-net"}),
    ("RUN --security=insecure x", {"security": "insecure"}),
    ("RUN --security=sandbox x", {"security": ""}),
    ("RUN   --network=none   --security=insecure\tx  y", {"args": ("x  y",)}),
    ('RUN --network=none ["a"]', {"args": ("a",), "shell_form": False}),
    ('CMD  [ "a" , "b" ]', {"args": ("a", "b"), "shell_form": False}),
    ('CMD ["a', {"args": ('["a',), "shell_form": True}),
    ('CMD "a b"', {"args": ('"a b"',), "shell_form": True}),
    ("CMD", {"args": (), "shell_form": True}),
    ("CMD []", {"args": (), "shell_form": False}),
    ('CMD ["\\" \\\\ \\/ \\b \\f \\n \\r \\t"]', {"args": ('" \\ / \b \f \n \r \t',)}),
    ("ENTRYPOINT top -b", {"args": ("top -b",), "shell_form": True}),
    ('ENTRYPOINT ["top", "-b"]', {"args": ("top", "-b"), "shell_form": False}),
    # COPY, ADD
    ("COPY a /b", {"keyword": "COPY", "sources": ("a",), "destination": "/b", "link": False}),
    ("COPY a* b? c/ /d/", {"sources": ("a*", "b?", "c/"), "destination": "/d/"}),
    ("COPY\ta \\\n  b", {"sources": ("a",), "destination": "b"}),
    ('COPY a "b c" /d/', {"sources": ("a", '"b', 'c"')}),
    ('COPY ["a b", "/c d/"]', {"sources": ("a b",), "destination": "/c d/"}),
    ("COPY --from=build --chown=1:2 --chmod=0755 --link a /d", {"source_stage": "build", "chown": "1:2", "link": True}),
    ("COPY --chmod=u=rwX,go=rX a b", {"chmod": "u=rwX,go=rX"}),
    ("COPY --chown=$u:$g a b", {"chown": "$u:$g"}),
    ("COPY --link=false a b", {"link": False}),
    ("COPY --link=TRUE a b", {"link": True}),
    ("COPY --parents a/./b c", {"parents": True, "sources": ("a/./b",)}),
    ("COPY --exclude=*.o --exclude=x/** a b", {"exclude": ("*.o", "x/**")}),
    ('COPY --chown="a b" --from=a\\ b x y', {"chown": "a b", "source_stage": "a b"}),
    ("COPY --from=0 a b", {"source_stage": "0"}),
    ("COPY -- --a b", {"sources": ("--a",)}),
    ("ADD a /b", {"keyword": "ADD", "keep_git_dir": None, "unpack": None}),
    ("ADD --checksum=sha256:00 https://h/x /y", {"checksum": "sha256:00", "sources": ("https://h/x",)}),
    ("ADD --keep-git-dir https://h/x.git#v1 /y", {"keep_git_dir": True}),
    ("ADD --keep-git-dir=false git@h:x.git /y", {"keep_git_dir": False}),
    ("ADD --unpack=false a.tar /y", {"unpack": False}),
    ("ADD --unpack --link --exclude=a --chmod=644 --chown=0 a /y", {"unpack": True, "link": True, "exclude": ("a",)}),
    # the rest
    ("WORKDIR /a b", {"path": "/a b"}),
    ("USER u:g", {"user": "u:g"}),
    ("STOPSIGNAL SIGKILL", {"signal": "SIGKILL"}),
    ("EXPOSE 80 53/udp 90-92 $p", {"ports": ("80", "53/udp", "90-92", "$p")}),
    ("VOLUME /a /b", {"paths": ("/a", "/b")}),
    ('VOLUME ["/a b"]', {"paths": ("/a b",)}),
    ('SHELL ["/bin/sh", "-ec"]', {"args": ("/bin/sh", "-ec")}),
    ("ONBUILD   RUN  echo   hi", {"trigger": "RUN  echo   hi"}),
    ("ONBUILD RUN <<E\nx\nE", {"trigger": "RUN <<E\nx\nE"}),
    ("ONBUILD COPY --link a b", {"trigger": "COPY --link a b"}),
    ("onbuild arg x=$y", {"trigger": "arg x=$y"}),
    ("MAINTAINER me <you@x>", {"author": "me <you@x>"}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_an_instruction_says(row):
    text, expected, *fault = row
    if fault:
        with pytest.raises(InvalidArgument, match=fault[0]):
            one(text)
        return
    step = one(text)
    assert {name: getattr(step, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "test", "more"),
    [
        ("HEALTHCHECK NONE", ["NONE"], {}),
        ("HEALTHCHECK none", ["NONE"], {}),
        ("HEALTHCHECK CMD a  b", ["CMD-SHELL", "a  b"], {}),
        ('HEALTHCHECK cmd ["a", "b"]', ["CMD", "a", "b"], {}),
        ("HEALTHCHECK --interval=1m30s --retries=3 CMD a", ["CMD-SHELL", "a"], {"interval": 90 * 10**9, "retries": 3}),
        ("HEALTHCHECK --timeout=500ms --start-period=2h CMD a", ["CMD-SHELL", "a"], {"start_period": 2 * HOUR}),
        ("HEALTHCHECK --start-interval=1.5s CMD a", ["CMD-SHELL", "a"], {"start_interval": 15 * 10**8}),
        ("HEALTHCHECK --interval=0 --timeout=1ms CMD a", ["CMD-SHELL", "a"], {"interval": 0, "timeout": 10**6}),
    ],
)
def test_healthcheck(text, test, more):
    check = one(text).check
    assert check.test == test
    assert {name: getattr(check, name) for name in more} == more


def test_heredocs_of_copy_are_apart_from_its_paths():
    step = one("COPY --chown=1 x <<a <<-'b c' y /d/\nA $v\na\n\tB\n\tb c")
    assert (step.sources, step.destination, step.chown) == (("x", "y"), "/d/", "1")
    assert [(d.name, d.content, d.expand) for d in step.heredocs] == [("a", "A $v\n", True), ("b c", "B\n", False)]
    assert one("ADD << f /d\nx\nf").heredocs[0].name == "f"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('RUN ["a", "b"]', ("a", "b")),
        ("RUN a b", ("a b",)),
        ("RUN <<E\na\nb\nE", ("a\nb\n",)),
        ("RUN <<-E\n\ta\n\tE", ("a\n",)),
        ("RUN << 'E F'\na\nE F", ("a\n",)),
        ("RUN <<E cat\na\nE", ("<<E cat\na\nE",)),
        ("RUN cat <<A <<B\na\nA\nb\nB", ("cat <<A <<B\na\nA\nb\nB",)),
    ],
)
def test_the_words_that_run_executes(text, words):
    assert command(one(text)) == (words, ())


# --- mounts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", Mount(type="bind", target="/x")),
        ("from=b", Mount(type="bind", from_="b")),
        ("type=cache,target=c", Mount(type="cache", target="c", read_only=False)),
        (
            "type=bind,from=b,source=/s,target=/x,rw",
            Mount(type="bind", target="/x", source="/s", from_="b", read_only=False),
        ),
        ("type=bind,src=s,dst=/x,ro=false", Mount(type="bind", target="/x", source="s", read_only=False)),
        ("type=bind,destination=/x,rw,readonly", Mount(type="bind", target="/x")),
        ("type=cache,target=/x", Mount(type="cache", target="/x", read_only=False)),
        (
            "type=cache,id=k,target=/x,sharing=locked,mode=0700,uid=1,gid=2,ro",
            Mount(type="cache", id="k", target="/x", sharing="locked", mode=0o700, uid=1, gid=2),
        ),
        ("TYPE=Cache,Target=/x,sharing=PRIVATE", Mount(type="cache", target="/x", sharing="private", read_only=False)),
        ("type=tmpfs,target=/x,size=64m", Mount(type="tmpfs", target="/x", size=64 << 20, read_only=False)),
        ("type=tmpfs,target=/x,size=1.5GiB", Mount(type="tmpfs", target="/x", size=3 << 29, read_only=False)),
        ("type=tmpfs,target=/x,size=100", Mount(type="tmpfs", target="/x", size=100, read_only=False)),
        ("type=secret,id=s", Mount(type="secret", id="s")),
        ("type=secret,id=s,env=TOKEN,required", Mount(type="secret", id="s", env="TOKEN", required=True)),
        ("type=secret,target=/x,mode=0440,required=0", Mount(type="secret", target="/x", mode=0o440)),
        ("type=ssh", Mount(type="ssh")),
        ("type=ssh,id=k,required=true,uid=5", Mount(type="ssh", id="k", required=True, uid=5)),
        ('"target=/a,b",type=bind', Mount(type="bind", target="/a,b")),
    ],
)
def test_mounts(text, expected):
    escaped = text.replace('"', '\\"')
    step = one(f"RUN --mount={escaped} x")
    assert resolve(step.mounts[0], lambda value: value) == expected


def test_a_mount_may_hold_variables_until_it_is_resolved():
    flag = one("RUN --mount=type=$t,target=/c/$u,uid=$u x").mounts[0]
    assert (flag.type, flag.target, flag.uid) == ("$t", "/c/$u", "$u")
    values = {"$t": "cache", "/c/$u": "/c/7", "$u": "7"}
    assert resolve(flag, lambda value: values[value]) == Mount(type="cache", target="/c/7", uid=7, read_only=False)
    with pytest.raises(Fault, match='unsupported mount type "cahce"'):
        resolve(flag, lambda value: {"$t": "cahce"}.get(value, "1"))


def test_several_mounts_keep_their_order():
    step = one("RUN --mount=type=cache,target=/a --network=none --mount=target=/b x")
    assert [mount.target for mount in step.mounts] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("type=cahce,target=/x", 'unsupported mount type "cahce"', "cache?"),
        ("type=zzz,target=/x", "unsupported mount type", "bind, cache"),
        ("type=cache,traget=/x", "unexpected key 'traget'", "target?"),
        ("type=cache,qqqq=1", "unexpected key 'qqqq'", "There are"),
        ("type=cache,target=/x,sharing=lokced", 'unsupported sharing value "lokced"', "locked?"),
        ("type=cache,target", "invalid field 'target' must be a key=value pair", "target=VALUE"),
        ("type=bind,target=/x,mode=0755", "unexpected key 'mode' for mount type 'bind'", "secret or ssh or cache"),
        ("type=bind,target=/x,sharing=shared", "unexpected key 'sharing'", "cache"),
        ("type=cache,target=/x,required", "unexpected key 'required'", "secret or ssh"),
        ("type=cache,target=/x,size=1m", "unexpected key 'size'", "tmpfs"),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode", "0755"),
        ("type=cache,target=/x,uid=a", "invalid value a for uid", "number"),
        ("type=cache,target=/x,gid=99999999999", "invalid value 99999999999 for gid", "number"),
        ("type=cache,target=/x,ro=maybe", "invalid value for readonly: maybe", "true or false"),
        ("type=tmpfs,target=/x,size=big", "invalid value for size: big", "64m"),
        ("type=tmpfs,target=/", 'invalid mount target "/"', "below the root"),
        ("type=cache,target=//a/..", "invalid mount target", "below the root"),
        ("type=secret", "invalid secret mount", "id=NAME"),
        ("type=secret,id=a,from=b", "should not have a from", "id"),
        ("type=secret,id=a,source=b", "both source and id", "id"),
        ("type=ssh,source=b", "ssh does not support source", "id"),
        ("from=$x,target=/y", "'from' doesn't support variable expansion", "FROM ${x} AS name"),
        ("'\"open'", "failed to parse csv mounts", "Quote"),
    ],
)
def test_a_bad_mount_is_named(text, why, remedy):
    with pytest.raises(InvalidArgument) as caught:
        one(f"RUN --mount={text} x")
    assert why in caught.value.why
    assert remedy in caught.value.remedy
    with pytest.raises(Fault):
        parse_mount(text.strip("'"))


# --- ports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", ["80/tcp"]),
        ("80/UDP", ["80/udp"]),
        ("80-82/sctp", ["80/sctp", "81/sctp", "82/sctp"]),
        ("80-80", ["80/tcp"]),
        ("8080:80", ["80/tcp"]),
        ("127.0.0.1:8080:80/udp", ["80/udp"]),
        ("[::1]:8080:80", ["80/tcp"]),
        ("127.0.0.1::80", ["80/tcp"]),
        ("8080-8090:80", ["80/tcp"]),
    ],
)
def test_ports(word, expected):
    assert exposed([word, word]) == expected


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("http", "invalid containerPort: http"),
        ("65536", "invalid containerPort"),
        ("9-8", "invalid containerPort"),
        ("80/foo", "invalid proto: foo"),
        ("/tcp", "invalid containerPort"),
        ("x:80", "invalid hostPort"),
        ("1.2.3:80:80", "invalid IP address"),
        ("80-82:90-91", "invalid ranges"),
        ("", "invalid containerPort"),
    ],
)
def test_bad_ports(word, why):
    with pytest.raises(Fault) as caught:
        exposed([word])
    assert why in caught.value.why
    assert caught.value.remedy


def test_ports_without_end_are_refused():
    with pytest.raises(Fault, match="more than"):
        exposed(["1-65535"] * 10)


# --- mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("RNU x", "unknown instruction: RNU", "RUN?"),
        ("rnu x", "unknown instruction: rnu", "RUN?"),
        ("FORM x", "unknown instruction: FORM", "FROM?"),
        ("ENTRYPONIT x", "unknown instruction", "ENTRYPOINT?"),
        ("QQQQQQ x", "unknown instruction: QQQQQQ", "There are"),
        ("RUN\u00a0x", "unknown instruction", "RUN?"),
        ("ENV a", "must have two arguments", "ENV a=VALUE"),
        ("ENV a=b c", "can't find =", "Quote"),
        ("ENV =b", "can not be blank", "ENV NAME=b"),
        ("LABEL", "at least one argument", "NAME=VALUE"),
        ("FROM", "either one or three arguments", "AS NAME"),
        ("FROM a b", "either one or three arguments", "AS NAME"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b"', "begins with a letter"),
        ("FROM a AS b/c", "invalid name for build stage", "begins with a letter"),
        ("FROM a IS b", "AS is expected", ""),
        ("FROM --plaftorm=x a", "unknown flag: --plaftorm", "--platform?"),
        ("COPY", "at least two arguments, but none", "DESTINATION"),
        ("COPY a", "at least two arguments, but only one", "DESTINATION"),
        ("COPY <<E\nE", "cannot accept a heredoc as a destination", "<<NAME DESTINATION"),
        ("COPY a <<E\nE", "cannot accept a heredoc as a destination", "<<NAME DESTINATION"),
        ("COPY --foo=1 a b", "unknown flag: --foo", "--from"),
        ("COPY --chwon=1 a b", "unknown flag: --chwon", "--chown?"),
        ("COPY --checksum=x a b", "unknown flag: --checksum", "ADD --checksum"),
        ("COPY --chown a b", "missing a value on flag: --chown", "--chown=VALUE"),
        ("COPY --link= a b", "missing a value on flag: --link", "--link=VALUE"),
        ("COPY --link=yes a b", "expecting boolean value for flag --link, not: yes", "--link=false"),
        ("COPY --chown=1 --chown=2 a b", "duplicate flag specified: --chown", "once"),
        ("COPY --from=$x a b", "not supported for --from", "FROM ${x}"),
        ('COPY ["a", "b"', "this is no JSON array", '["…", "…"]'),
        ("ADD --from=x a b", "unknown flag: --from", "COPY --from"),
        ("ADD --parents a b", "unknown flag: --parents", "COPY has --parents"),
        ("RUN --mout=type=cache x", "unknown flag: --mout", "--mount?"),
        ("RUN --device=x y", "unknown flag: --device", "no devices"),
        ("RUN --network= x", "invalid network mode", "name of a network"),
        ("RUN --security=insecrue x", 'security "insecrue" is not valid', "insecure?"),
        ("RUN", "requires a command", ""),
        ("RUN []", "requires a command", ""),
        ('RUN ["a", 1]', "arrays must be comprised of strings only", "Quote"),
        ('RUN ["a", ["b"]]', "arrays must be comprised of strings only", "Quote"),
        ('CMD ["a\\u0000b"]', "null character", "Delete"),
        ("USER", "exactly one argument", ""),
        ("WORKDIR ", "exactly one argument", ""),
        ("STOPSIGNAL", "exactly one argument", ""),
        ("SHELL a", "in JSON form", '["/bin/sh", "-c"]'),
        ("SHELL []", "at least one argument", '["/bin/sh", "-c"]'),
        ("ARG", "at least one argument", ""),
        ("ARG =x", "can not be blank", ""),
        ("VOLUME", "at least one argument", ""),
        ("VOLUME []", "at least one argument", ""),
        ('VOLUME [" "]', "can not be an empty string", ""),
        ("EXPOSE", "at least one argument", ""),
        ("HEALTHCHECK", "at least one argument", "NONE"),
        ("HEALTHCHECK FOO", 'Unknown type "FOO"', "CMD"),
        ("HEALTHCHECK NONE x", "NONE takes no arguments", ""),
        ("HEALTHCHECK CMD", "Missing command", ""),
        ("HEALTHCHECK --interval=foo CMD a", 'invalid duration "foo"', "30s"),
        ("HEALTHCHECK --interval=1us CMD a", "cannot be less than 1ms", ""),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries", ""),
        ("HEALTHCHECK --intervall=1s CMD a", "unknown flag: --intervall", "--interval?"),
        ("ONBUILD", "at least one argument", ""),
        ("ONBUILD FROM x", "FROM isn't allowed", ""),
        ("ONBUILD maintainer x", "MAINTAINER isn't allowed", ""),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD", ""),
        ("ONBUILD RNU x", "unknown instruction: RNU", "RUN?"),
        ("ONBUILD COPY --chwon=1 a b", "unknown flag: --chwon", "--chown?"),
        ("MAINTAINER", "exactly one argument", ""),
        ("MAINTAINER --boo x", "unknown flag: --boo", "no flags"),
        ("CMD --x=1 a", "unknown flag: --x", "CMD has no flags"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(text, why, remedy):
    with pytest.raises(InvalidArgument) as caught:
        parse(f"FROM x\n\n{text}\n", "sub/My.Dockerfile")
    assert caught.value.what == "sub/My.Dockerfile:3"
    assert caught.value.why.startswith("dockerfile parse error on line 3: ")
    assert why in caught.value.why
    assert remedy in caught.value.remedy


def test_an_error_shows_the_place():
    with pytest.raises(InvalidArgument) as caught:
        parse("FROM x\nUSER u\nCOPY --from=b \\\n   --chwon=1 \\\n   a b\n", "D")
    assert str(caught.value) == (
        "D:3: dockerfile parse error on line 3: unknown flag: --chwon\n"
        "  1 | FROM x\n"
        "  2 | USER u\n"
        "  3 | COPY --from=b \\\n"
        "> 4 |    --chwon=1 \\\n"
        "    |    ^^^^^^^\n"
        "  5 |    a b\n"
        "Did you mean --chown?"
    )


def test_an_excerpt_of_a_long_line_is_short():
    with pytest.raises(InvalidArgument) as caught:
        parse(f"FROM x\nLABEL {'a=b ' * 100_000}oops {'a=b ' * 100_000}", "D")
    text = str(caught.value)
    assert len(text) < 1000
    shown, marks = text.splitlines()[-3:-1]
    assert shown[marks.index("^") :][: marks.count("^")] == "oops"


def test_an_excerpt_of_many_lines_is_short():
    with pytest.raises(InvalidArgument) as caught:
        parse("FROM x\nLABEL a=b \\\n" + " c=d \\\n" * 1000 + " oops\n", "D")
    lines = str(caught.value).splitlines()
    assert len(lines) < 14
    assert any(line.startswith("> 1003 |  oops") for line in lines)


def test_a_trigger_is_read_and_blamed_where_it_runs():
    place = Location("D", 7)
    step = parse_one("COPY --link <<E /x\n\ty\nE", place)
    assert isinstance(step, ins.Transfer)
    assert (step.location, step.heredocs[0].content) == (place, "\ty\n")
    for text in ("RNU x", "RUN <<E\nx", "RUN a\nRUN b", "", "RUN a\0b"):
        with pytest.raises(InvalidArgument) as caught:
            parse_one(text, place)
        assert caught.value.what == "D:7"


def test_instructions_are_shown_on_one_line_as_they_were_written():
    assert one("run --network=none  a \\\n  b").shown == "RUN --network=none  a   b"
    assert one("COPY <<E /x\ny\nE").shown == "COPY <<E /x"
    assert one("CMD").shown == "CMD"


def test_two_ways_to_write_the_same_are_equal():
    assert parse("from x  as B\nenv a=b\n") == parse("# c\nFROM x AS b\n\nENV \\\n  a=b")
    assert parse("FROM x\nENV a b") != parse("FROM x\nENV a=b")


def test_printing_is_readable():
    text = (
        "# syntax=a/b\n# escape=`\n# check=skip=all\nfrom --platform=linux/arm64 x as B\nrun --mount=type=cache,dst=/c "
        "--network=none `\n  make\ncopy --link <<'E' a /d/\n$x\nE\nvolume [\"/a b\"]\nHEALTHCHECK --interval=1s CMD x\n"
    )
    assert print_recipe(parse(text)) == (
        "# syntax=a/b\n# escape=`\n# check=skip=all\nFROM --platform=linux/arm64 x AS B\n"
        "RUN --mount=type=cache,target=/c --network=none make\nCOPY --link <<'E' a /d/\n$x\nE\n"
        'VOLUME ["/a b"]\nHEALTHCHECK --interval=1s CMD x\n'
    )


@pytest.mark.parametrize("row", [row for row in ROWS if len(row) == 2], ids=lambda row: row[0][:40])
def test_what_is_printed_says_the_same(row):
    recipe = parse(f"FROM x\n{row[0]}\nUSER last\n")
    assert parse(print_recipe(recipe)) == recipe
