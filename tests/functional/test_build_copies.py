"""What COPY takes from the trees of a build."""

from __future__ import annotations

import os

import pytest

from hooper.api.build_graph import Copy, CopySource, LocalSource, Scratch
from hooper.api.errors import InvalidArgument
from hooper.api.storage import Mount
from hooper.engine.build_sources import Tree, select

pytestmark = [pytest.mark.root, pytest.mark.anyio]


NODE = LocalSource()


async def test_a_copy_takes_what_was_selected(contexts, tmp_path):
    source, target = tmp_path / "from", tmp_path / "to"
    for name in ("d/x", "d/e/y.md", "d/e/z"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    target.mkdir()
    mounts = [Mount("bind", str(target), ("rbind",))]
    tree = Tree.of_directory(source, contexts.files)
    for destination, exclude, parents, made in [
        ("/all", (), False, ["e/y.md", "e/z", "x"]),
        ("/some", ("**/*.md",), False, ["e/z", "x"]),
        ("/with", ("**/*.md",), True, ["d/e/z", "d/x"]),
    ]:
        origin = CopySource(node=NODE, paths=("d",))
        step = Copy(base=Scratch(), sources=(origin,), destination=destination, exclude=exclude, parents=parents)
        selection = await select(tree, origin, parents=parents, exclude=exclude)
        await contexts.files.copy(mounts, [(await tree.place(), selection)], step)
        found = [path for path in (target / destination[1:]).rglob("*") if path.is_file()]
        assert sorted(str(path.relative_to(target / destination[1:])) for path in found) == made


async def test_a_layer_tells_the_same_digest_as_a_context(contexts, tmp_path):
    """Of files that belong to root: those of a layer may be copied with their owners."""
    (tmp_path / "from/d").mkdir(parents=True)
    (tmp_path / "from/d/x").write_text("x")
    (tmp_path / "from/d/l").symlink_to("x")
    mounts = [Mount("bind", str(tmp_path / "from"), ("rbind", "ro"))]

    async def view(chain):
        return mounts

    directory, chain = (
        Tree.of_directory(tmp_path / "from", contexts.files), Tree.of_chain("chain", view, contexts.files)
    )  # fmt: skip
    origin = CopySource(node=NODE, paths=("d/*",))
    digests = [(await select(tree, origin)).digest for tree in (directory, chain)]
    assert digests[0] == digests[1]
    os.chown(tmp_path / "from/d/x", 5, 5)
    assert (await select(Tree.of_chain("chain", view, contexts.files), origin)).digest != digests[0]
    assert (await select(Tree.of_directory(tmp_path / "from", contexts.files), origin)).digest == digests[0]
    with pytest.raises(InvalidArgument, match=r"stat nothing: file does not exist in stage one"):
        await select(chain, CopySource(node=NODE, paths=("nothing",), shown="stage one"))
    assert [entry.path for entry in await chain.entries("d")] == ["d", "d/l", "d/x"]
