"""Which files of a tree a COPY means, what their digest is of, and what is said of those that are not there."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hooper.api.build_graph import CopySource, LocalSource
from hooper.api.errors import InvalidArgument
from hooper.engine.build_files import BuildFiles, SourceEntry
from hooper.engine.build_sources import Tree, select
from hooper.testing.workers import ForkWorkers

FILES = {
    "a.txt": "A", "b.txt": "B", "README.md": "R", "src/main.py": "M", "src/util/x.py": "X", "src/util/y.txt": "Y",
    "docs/one.md": "1", "docs/sub/two.md": "2", "docs/sub/three.txt": "3", "odd[1]*.txt": "O", "empty/": "",
}  # fmt: skip
LINKS = {
    "to-a": "a.txt", "to-src": "src", "abs": "/src/main.py", "out": "../../etc/passwd", "away": "/etc/passwd",
    "loop": "loop", "gone": "nowhere", "src/up": "../a.txt",
}  # fmt: skip


def entries(files=FILES, links=LINKS):
    found = {}
    for path, content in files.items():
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            found["/".join(parts[:depth])] = SourceEntry("/".join(parts[:depth]), "directory", "dir")
        kind = "directory" if path.endswith("/") else "file"
        found[path.strip("/")] = SourceEntry(path.strip("/"), kind, content or "dir", len(content))
    found |= {path: SourceEntry(path, "symlink", f"link {target}", 0, target) for path, target in links.items()}
    return [found[path] for path in sorted(found)]


class Trees:
    """Trees whose entries are known; what an ignore file takes out of them is noted."""

    def __init__(self, files=FILES, links=LINKS):
        self.gone = []
        self.tree = Tree.of_directory(
            Path("/nowhere"), BuildFiles(ForkWorkers()), "build context", entries(files, links), self.take
        )

    async def take(self, paths):
        self.gone += paths

    def ignoring(self, *patterns, file=".dockerignore"):
        self.tree.ignore(patterns, file)
        return self

    def select(self, *paths, literal=False, parents=False, exclude=(), keyword="COPY"):
        source = CopySource(node=LocalSource(), paths=paths, literal=literal)

        async def work():
            return await select(self.tree, source, parents=parents, exclude=exclude, keyword=keyword)

        return anyio.run(work)

    def items(self, *paths, **more):
        """Each as PATH or PATH=NAME, and with "{…}" what of a directory is copied."""
        shown = []
        for path, name, only in self.select(*paths, **more).items:
            text = path.decode() + (f"={name.decode()}" if name and name != path.rpartition(b"/")[2] else "")
            shown.append(text + ("" if only is None else "{" + " ".join(each.decode() for each in only) + "}"))
        return shown


@pytest.mark.parametrize(
    ("paths", "items"),
    [
        (["a.txt"], ["a.txt"]),
        (["./a.txt", "/b.txt"], ["a.txt", "b.txt"]),
        (["src"], ["src"]),
        (["src/"], ["src"]),
        (["."], [""]),
        (["/"], [""]),
        (["src/../a.txt"], ["a.txt"]),
        (["*.txt"], ["a.txt", "b.txt", "odd[1]*.txt"]),
        (["?.txt"], ["a.txt", "b.txt"]),
        (["src/*"], ["src/main.py", "a.txt=up", "src/util"]),
        (["*/*.md"], ["docs/one.md"]),
        (["d*/s*/*.md"], ["docs/sub/two.md"]),
        (["docs/**"], ["docs/one.md", "docs/sub"]),
        (["odd\\[1\\]\\*.txt"], ["odd[1]*.txt"]),
        (["to-a"], ["a.txt=to-a"]),
        (["to-src"], ["src"]),
        (["to-src/main.py"], ["src/main.py"]),
        (["to-src/*.py"], ["src/main.py"]),
        (["src/up"], ["a.txt=up"]),
        (["abs"], ["src/main.py=abs"]),
        (["a.txt", "no-such*"], ["a.txt"]),
        (["empty"], ["empty"]),
    ],
)
def test_what_is_meant(paths, items):
    assert Trees().items(*paths) == items


def test_several_are_counted_as_they_match():
    assert [Trees().select(*paths).matched for paths in (["a.txt"], ["*.txt"], ["a.txt", "src"])] == [1, 3, 2]


def test_a_literal_name_is_no_pattern():
    assert Trees().items("odd[1]*.txt", literal=True) == ["odd[1]*.txt"]
    with pytest.raises(InvalidArgument, match=r"stat \*.txt: file does not exist"):
        Trees().select("*.txt", literal=True)


@pytest.mark.parametrize(
    ("paths", "exclude", "items"),
    [
        (["."], ["**/*.txt", "to-*"], None),
        (["docs"], ["sub"], ["docs{one.md}"]),
        (["docs"], ["**/*.md"], ["docs{sub sub/three.txt}"]),
        (["docs"], ["sub", "!sub/two.md"], ["docs{one.md sub sub/two.md}"]),
        (["docs"], ["docs"], ["docs{one.md sub sub/three.txt sub/two.md}"]),
        (["*.txt"], ["b.txt"], ["a.txt", "odd[1]*.txt"]),
        (["a.txt"], ["*.txt"], []),
    ],
)
def test_what_is_excluded(paths, exclude, items):
    found = Trees().items(*paths, exclude=exclude)
    if items is not None:
        assert found == items
    else:
        assert "txt" not in found[0]
        assert "src src/main.py" in found[0]


@pytest.mark.parametrize(
    ("paths", "exclude", "items"),
    [
        (["src/main.py"], [], ["{src src/main.py}"]),
        (["src/util"], [], ["{src src/util src/util/x.py src/util/y.txt}"]),
        (["**/*.md"], [], ["{README.md docs docs/one.md docs/sub docs/sub/two.md}"]),
        (["src/**/*.py"], [], ["{src src/main.py src/util src/util/x.py}"]),
        (["docs/./sub/*.md"], [], ["docs{sub sub/two.md}"]),
        (["docs/./sub"], ["**/*.md"], ["docs{sub sub/three.txt}"]),
        (["./src/main.py"], [], ["{src src/main.py}"]),
        (["to-src/./util/x.py"], [], ["src{util util/x.py}"]),
        (["src/up"], [], ["{src src/up}"]),
        (["*/./*.py"], [], ["src{main.py}"]),
        (["a.txt", "docs/one.md"], [], ["{a.txt}", "{docs docs/one.md}"]),
        (["empty"], [], ["{empty}"]),
    ],
)
def test_with_parents(paths, exclude, items):
    assert Trees().items(*paths, parents=True, exclude=exclude) == items


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("main.py", "COPY failed: file not found in build context or excluded by .dockerignore: stat main.py: file does"
                    " not exist\nDid you mean src/main.py?"),
        ("src/mian.py", "stat src/mian.py: file does not exist\nDid you mean src/main.py?"),
        ("readme.md", "stat readme.md: file does not exist\nDid you mean README.md?"),
        ("src/main.py/x", "stat src/main.py/x: file does not exist"),
        ("wholly-unlike", "stat wholly-unlike: file does not exist\nIs it spelled right?"),
        ("*.zip", "COPY failed: no source files were specified: nothing in build context matches *.zip"),
        ("../x", "COPY failed: forbidden path outside the build context: ../x"),
        ("a/../../x", "COPY failed: forbidden path outside the build context: a/../../x"),
        ("out", "COPY failed: forbidden path outside the build context: out: a link in it leads to ../../etc/passwd"),
        ("away", "COPY failed: forbidden path outside the build context: away: a link in it leads to /etc/passwd"),
        ("gone", "stat gone: file does not exist"),
        ("loop", "stat loop: file does not exist"),
        ("[", 'COPY failed: syntax error in pattern "["'),
    ],
)  # fmt: skip
def test_what_is_not_there(path, told):
    with pytest.raises(InvalidArgument) as raised:
        Trees().select(path)
    assert told in str(raised.value)


def test_what_an_ignore_file_leaves_out_is_gone_and_named():
    trees = Trees().ignoring("docs", "!docs/sub/two.md", "*.txt", "src/util", file="Dockerfile.dockerignore")
    assert trees.items("docs") == ["docs"]
    assert trees.gone == ["a.txt", "b.txt", "docs/one.md", "docs/sub/three.txt", "odd[1]*.txt", "src/util"]
    paths = [entry.path for entry in anyio.run(trees.tree.entries)]
    assert "docs/sub/two.md" in paths
    assert not {"docs/one.md", "src/util", "src/util/x.py", "a.txt"} & set(paths)
    assert [entry.path for entry in anyio.run(trees.tree.entries, "docs")] == ["docs", "docs/sub", "docs/sub/two.md"]
    with pytest.raises(InvalidArgument, match=r"stat a.txt: file does not exist: Dockerfile.dockerignore excludes it"):
        trees.select("a.txt")
    assert trees.tree.excluded_by("src/util/x.py") == "Dockerfile.dockerignore"
    assert trees.tree.excluded_by("src/main.py") == ""


def test_a_digest_is_of_contents_and_of_names_at_the_destination():
    base = Trees().select("src").digest
    moved = {path.replace("src/", "other/"): content for path, content in FILES.items()}
    links = {path.replace("src/", "other/"): target for path, target in LINKS.items()}
    assert Trees(moved, links).select("other").digest == base
    assert Trees({**FILES, "src/main.py": "changed"}).select("src").digest != base
    assert Trees({**FILES, "src/more": ""}).select("src").digest != base
    assert Trees({**FILES, "a.txt": "changed"}).select("src").digest == base
    assert Trees(links={**LINKS, "src/up": "../b.txt"}).select("src").digest != base
    same = {"a.txt": "A", "b.txt": "A"}
    assert Trees(same, {}).select("a.txt").digest != Trees(same, {}).select("b.txt").digest
    assert Trees().select("docs").digest != Trees().select("docs", exclude=["**/*.txt"]).digest
    assert Trees().select("docs", parents=True).digest != Trees().select("docs").digest


def test_a_link_is_followed_to_what_it_means_now():
    base = Trees().select("to-a").digest
    assert Trees({**FILES, "a.txt": "changed"}).select("to-a").digest != base
    assert Trees({**FILES, "a.txt": "changed"}).select("to-*", exclude=[]).digest != Trees().select("to-*").digest
