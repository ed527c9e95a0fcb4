"""Plans of Dockerfiles: COPY and ADD, and the URLs of git repositories."""

from __future__ import annotations

import pytest

from build_fakes import Bench, history, of_kind
from hooper.api.build_graph import Copy, GitSource, HttpSource, ImageSource, LocalSource
from hooper.api.errors import InvalidArgument
from hooper.api.git_url import GitUrl, parse_git_url
from hooper.api.model import ImageConfig

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def bench():
    return Bench()


def copy_of(plan):
    (copy,) = of_kind(plan, Copy)
    return copy


# --- paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "destination", "paths"),
    [
        ("COPY a x", "/w/x", ["a"]),
        ("COPY a .", "/w/", ["a"]),
        ("COPY a ./", "/w/", ["a"]),
        ("COPY a x/", "/w/x/", ["a"]),
        ("COPY a x/.", "/w/x/", ["a"]),
        ("COPY a ..", "/", ["a"]),
        ("COPY a /", "/", ["a"]),
        ("COPY a //x//y", "/x/y", ["a"]),
        ("COPY a /a/../q", "/q", ["a"]),
        ("COPY a ../../../q", "/q", ["a"]),
        ("COPY a b .", "/w/", ["a", "b"]),
        ("COPY d/* ./y/", "/w/y/", ["d/*"]),
        ("COPY ./d/../a /q", "/q", ["a"]),
        ("COPY /a /q", "/q", ["a"]),
        ("COPY . /all/", "/all/", [""]),
        ("COPY d/ /d", "/d", ["d"]),
        ('COPY ["a b", "/c d/"]', "/c d/", ["a b"]),
        ("ENV s=src d=/dst\nCOPY $s/x ${d}/$s", "/dst/src", ["src/x"]),
        ("ENV s='a b'\nCOPY $s /x", "/x", ["a b"]),
        ("COPY a[[]0].txt /x", "/x", ["a[[]0].txt"]),
    ],
)
def test_paths(bench, written, destination, paths):
    copy = copy_of(bench.plan(f"FROM base\n{written}"))
    assert copy.destination == destination
    assert [path for source in copy.sources for path in source.paths] == paths
    assert all(isinstance(source.node, LocalSource) and not source.literal for source in copy.sources)
    assert {source.shown for source in copy.sources} == {"build context"}


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ("COPY a /x", "keep_owner", False),
        ("COPY a /x", "unpack", False),
        ("COPY a /x", "link", False),
        ("COPY --link a /x", "link", True),
        ("COPY --chown=u:g a /x", "chown", "u:g"),
        ("COPY --chown=1000 a /x", "chown", "1000"),
        ("ENV u=me\nCOPY --chown=$u:1 a /x", "chown", "me:1"),
        ("COPY --chmod=755 a /x", "chmod", "755"),
        ("COPY --chmod=07777 a /x", "chmod", "07777"),
        ("COPY --chmod=u=rwX,go=rX a /x", "chmod", "u=rwX,go=rX"),
        ("COPY --chmod=+x a /x", "chmod", "+x"),
        ("COPY --chmod=g=u,o-rwx a /x", "chmod", "g=u,o-rwx"),
        ("ARG m=600\nCOPY --chmod=$m a /x", "chmod", "600"),
        ("COPY --exclude=*.o --exclude=**/t a /x", "exclude", ("*.o", "**/t")),
        ("COPY --parents a/b /x/", "parents", True),
        ("ADD a /x", "unpack", True),
        ("ADD --unpack=false a /x", "unpack", False),
        ("ADD --unpack a /x", "unpack", True),
        ("ADD --chown=5 --chmod=644 --link a /x", "chown", "5"),
    ],
)
def test_flags(bench, written, field, value):
    assert getattr(copy_of(bench.plan(f"FROM base\n{written}")), field) == value


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("a/b/../c", "a/c"),
        ("a/./b/c", "a/./b/c"),
        ("/a/../d/./b//c", "d/./b/c"),
        ("././b", "././b"),
        ("a/*/./x/**/y", "a/*/./x/**/y"),
    ],
)
def test_the_pivot_of_parents_stays(bench, source, path):
    (found,) = copy_of(bench.plan(f"FROM base\nCOPY --parents {source} /x/")).sources
    assert found.paths == (path,)


# --- stages and images --------------------------------------------------------------------------------


def test_copy_from_a_stage_and_an_image(bench):
    bench.services.images["tool"] = ImageConfig()
    plan = bench.plan(
        "FROM base AS s\nRUN x\nFROM base\nCOPY --from=S /bin/a1 ../up /a/\nCOPY --from=tool --chown=1 /bin/a* /b\n"
        "COPY --from=0 . /c\nCOPY --from=scratch a /d"
    )
    first, second, third, fourth = (step.node for step in plan.steps[3:])
    assert first.sources[0].node is plan.steps[1].node
    assert [source.paths[0] for source in first.sources] == ["bin/a1", "up"]
    assert (first.keep_owner, first.sources[0].shown) == (True, "stage S")
    assert isinstance(second.sources[0].node, ImageSource)
    assert (second.keep_owner, second.sources[0].paths, second.sources[0].shown) == (False, ("bin/a*",), "image tool")
    assert (third.sources[0].node, third.sources[0].paths) == (first.sources[0].node, ("",))
    assert fourth.sources[0].shown == "scratch"
    assert history(plan)[-3:] == [
        "/bin/sh -c #(nop) COPY --chown=1 /bin/a* in /b ",
        "/bin/sh -c #(nop) COPY . in /c ",
        "/bin/sh -c #(nop) COPY a in /d ",
    ]


def test_a_stage_is_copied_from_as_it_is_at_its_end(bench):
    plan = bench.plan("FROM base AS a\nRUN 1\nRUN 2\nFROM a\nCOPY --from=a /x /y")
    assert plan.result.sources[0].node.args[-1] == "2"
    assert plan.result.base is plan.result.sources[0].node


# --- here-documents -----------------------------------------------------------------------------------


def test_heredocs_of_copy(bench):
    plan = bench.plan(
        "FROM base\nENV v=1\nCOPY <<a /x\nis $v \"q\" \\$v\na\nCOPY <<'b' /x\nis $v\nb\n"
        "COPY f <<-c <<d /y/\n\t1\n\tc\n2\nd\n"
    )
    first, second, third = of_kind(plan, Copy)
    (file,) = first.sources[0].node.files
    assert (file.name, file.mode, file.data) == ("a", 0o644, b'is 1 "q" $v\n')
    assert (first.sources[0].paths, first.sources[0].literal, first.destination) == (("a",), True, "/x")
    assert second.sources[0].node.files[0].data == b"is $v\n"
    assert [source.paths[0] for source in third.sources] == ["f", "c", "d"]
    assert [source.node.files[0].data for source in third.sources[1:]] == [b"1\n", b"2\n"]
    assert history(plan)[-1] == "/bin/sh -c #(nop) COPY f <<c <<d in /y/ "


def test_a_heredoc_stays_in_its_directory(bench):
    copy = copy_of(bench.plan("FROM base\nADD <<../../etc/passwd /x/\nx\n../../etc/passwd\n"))
    assert copy.sources[0].node.files[0].name == "passwd"
    copy = copy_of(bench.plan("FROM base\nCOPY <<.. /x\nx\n..\n"))
    assert copy.sources[0].node.files[0].name == "document"


# --- what is fetched ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "url", "name", "destination", "chmod", "unpack"),
    [
        ("ADD http://h/a/file /x/", "http://h/a/file", "file", "/x/", "", False),
        ("ADD https://h/a%20b?q=1#f x", "https://h/a%20b?q=1#f", "a b", "/w/x", "", False),
        ("ADD --chmod=644 http://h/f /x", "http://h/f", "f", "/x", "644", False),
        ("ADD --unpack http://h/f.tgz /x/", "http://h/f.tgz", "f.tgz", "/x/", "", True),
        ("ADD http://h/ /x", "http://h/", "x", "/x", "", False),
        ("ADD http://h /x/y", "http://h", "y", "/x/y", "", False),
        ("ENV v=2\nADD http://h/f-$v.tgz /x/", "http://h/f-2.tgz", "f-2.tgz", "/x/", "", False),
    ],
)
def test_urls(bench, written, url, name, destination, chmod, unpack):
    copy = copy_of(bench.plan(f"FROM base\n{written}"))
    (source,) = copy.sources
    assert isinstance(source.node, HttpSource)
    assert (source.node.url, source.node.filename, source.paths, source.literal) == (url, name, (name,), True)
    assert (copy.destination, copy.chmod, copy.unpack, copy.keep_owner) == (destination, chmod, unpack, False)


def test_checksums_are_handed_on(bench):
    copy = copy_of(bench.plan(f"FROM base\nARG d={DIGEST}\nADD --checksum=$d http://h/f /x"))
    assert copy.sources[0].node.checksum == DIGEST
    copy = copy_of(bench.plan("FROM base\nADD --checksum=abc123 https://h/a.git#v1 /x"))
    assert (copy.sources[0].node.checksum, copy.sources[0].node.ref) == ("abc123", "v1")


def test_local_and_fetched_files_each_keep_their_rules(bench):
    plan = bench.plan("FROM base\nADD a.tar http://h/b.tar c.tar /x/")
    first, second, third = of_kind(plan, Copy)
    assert [copy.unpack for copy in (first, second, third)] == [True, False, True]
    assert (second.base, third.base, plan.result) == (first, second, third)
    assert plan.steps[-1].node is third
    assert len(history(plan)) == 1
    assert len(copy_of(bench.plan("FROM base\nADD --unpack=false a.tar http://h/b.tar /x/")).sources) == 2


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("https://h/a/b.git", GitSource(remote="https://h/a/b.git")),
        ("http://h/b.git#v1", GitSource(remote="http://h/b.git", ref="v1")),
        ("https://h/b.git#v1:d/e", GitSource(remote="https://h/b.git", ref="v1", subdirectory="d/e")),
        ("https://h/b.git#:d", GitSource(remote="https://h/b.git", subdirectory="d")),
        ("git@h:a/b.git#main", GitSource(remote="git@h:a/b.git", ref="main")),
        ("git://h/b", GitSource(remote="git://h/b")),
        ("ssh://git@h:22/b.git", GitSource(remote="ssh://git@h:22/b.git")),
        (
            "https://h/b.git?ref=v1&subdir=/d/&checksum=0abc&keep-git-dir=1&submodules=0",
            GitSource(
                remote="https://h/b.git", ref="v1", subdirectory="d", checksum="0abc", keep_git_dir=True,
                submodules=False,
            ),
        ),
        ("--keep-git-dir https://h/b.git", GitSource(remote="https://h/b.git", keep_git_dir=True)),
        ("--keep-git-dir=true https://h/b.git?keep-git-dir", GitSource(remote="https://h/b.git", keep_git_dir=True)),
        ("https://h/b.git?branch=m", GitSource(remote="https://h/b.git", ref="refs/heads/m")),
        ("https://h/b.git?tag=v", GitSource(remote="https://h/b.git", ref="refs/tags/v")),
        ("https://h/b.git?commit=ab&fetch-by-commit", GitSource(remote="https://h/b.git", ref="ab")),
        ("git@h:b.git?subdir=x#r", GitSource(remote="git@h:b.git", ref="r", subdirectory="x")),
    ],
)  # fmt: skip
def test_git_repositories(bench, written, source):
    copy = copy_of(bench.plan(f"FROM base\nADD {written} /x"))
    (found,) = copy.sources
    for field in ("remote", "ref", "subdirectory", "checksum", "keep_git_dir", "submodules"):
        assert getattr(found.node, field) == getattr(source, field)
    assert (found.paths, found.literal, copy.destination, copy.keep_owner) == (("",), True, "/x", False)


@pytest.mark.parametrize("text", ["https://h/b", "a.git", "./git@h:b", "ftp://h/b.git", "git@h", "a:b", "github.com/a"])
def test_what_is_no_git_url(text):
    assert parse_git_url(text) is None


def test_the_short_form_is_for_contexts():
    assert parse_git_url("github.com/a/b#x", loose=True) == GitUrl(remote="https://github.com/a/b", ref="x")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("nonsense=1", 'unexpected query "nonsense"'),
        ("ref=", 'query "ref" has no value'),
        ("ref=a&ref=b", 'query "ref" has multiple values'),
        ("ref=a#b", 'ref conflicts: "b" vs "a"'),
        ("subdir=a#b:c", 'subdir conflicts: "c" vs "a"'),
        ("tag=a&branch=b", "ref conflicts"),
        ("checksum=xyz", "expected hex commit hash"),
        ("keep-git-dir=maybe", 'invalid keep-git-dir value: "maybe"'),
        ("mtime=never", 'invalid mtime value: "never"'),
    ],
)
def test_a_wrong_git_query(query, why):
    with pytest.raises(InvalidArgument) as caught:
        parse_git_url(f"https://h/b.git?{query}")
    assert why in str(caught.value)


# --- mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("COPY ../x /", "COPY failed: forbidden path outside the build context: ../x"),
        ("COPY a/../../x /", "forbidden path outside the build context"),
        ("ADD .. /", "ADD failed: forbidden path outside the build context"),
        ("COPY --parents a/./../../x /", "forbidden path outside the build context"),
        ("COPY a b /x", "must be a directory and end with a /"),
        ("ADD a http://h/b /x", "must be a directory and end with a /"),
        ("COPY a <<b /x\nb", "must be a directory and end with a /"),
        ("COPY a $no", "the destination is empty"),
        ("COPY --chmod=9 a b", "invalid chmod"),
        ("COPY --chmod=10000 a b", "invalid chmod"),
        ("COPY --chmod=u=q a b", "invalid chmod"),
        ("COPY --chmod=rw a b", "invalid chmod"),
        ("COPY --chown=a:b:c a b", "invalid chown"),
        ("COPY a[ b", "syntax error in pattern"),
        ("COPY --exclude=a[ a b", "syntax error in pattern"),
        ("COPY http://h/f /x", "source can't be a URL for COPY"),
        ("COPY git@h:a/b.git /x", "source can't be a git ref for COPY"),
        ("ADD http://h/ /x/", "cannot determine filename for source http://h/"),
        ("ADD http://[h/f /x/", "invalid URL"),
        ("ADD --checksum=md5:1 http://h/f /x", "unsupported checksum"),
        (f"ADD --checksum={DIGEST} a /x", "checksum requires HTTP(S) or Git sources"),
        (f"ADD --checksum={DIGEST} <<a /x\na", "checksum requires HTTP(S) or Git sources"),
        (f"ADD --checksum={DIGEST} http://h/a http://h/b /x/", "checksum can't be specified for multiple sources"),
        ("ADD --checksum=xyz https://h/a.git /x", "expected hex commit hash"),
        ("ADD --checksum=abc https://h/a.git?checksum=def /x", "checksum mismatch"),
        ("ADD --keep-git-dir=false https://h/a.git?keep-git-dir=1 /x", "inconsistent keep-git-dir"),
        ("ADD https://h/a.git?x=1 /x", 'unexpected query "x"'),
        ("COPY ${x:?missing} /x", "x: missing"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(bench, written, why):
    message = bench.fails(f"FROM base\n\n{written}")
    assert message.startswith("Dockerfile:3: ")
    assert why in message
    assert "> 3 | " in message
