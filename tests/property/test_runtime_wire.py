"""Messages survive the way."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hooper.api import oci
from hooper.api.isolation import Bundle, Outline
from hooper.runtime import protocol as p
from hooper.runtime import wire
from hooper.runtime.detach import DetachKeys

texts = st.text(max_size=20)
attaches = st.builds(
    p.Attach,
    stdin=st.booleans(),
    stdout=st.booleans(),
    detach_keys=st.binary(max_size=4),
    received=st.binary(),
    exec_id=texts,
)


@st.composite
def spawns(draw: st.DrawFn) -> p.Spawn:
    process = oci.Process(args=draw(st.lists(texts, min_size=1)), env=draw(st.lists(texts)))
    spec = oci.Spec(oci_version="1.0.2", process=process, root=oci.Root(path="/r"))
    bundle = Bundle(id=draw(texts), directory=Path("/run/x") / "d", spec=spec, rootfs=())
    return p.Spawn(
        container_id=bundle.id, directory=str(bundle.directory), bundle=wire.pack(bundle), outline=Outline(bundle.id),
        backend=draw(texts), netns="new", log_driver="", attached=draw(st.lists(attaches, max_size=3)),
        console_size=draw(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9))),
        new_netns=p.NewNetns(draw(st.booleans()), draw(st.dictionaries(texts, texts, max_size=3))),
    )  # fmt: skip


requests = st.one_of(
    attaches,
    st.builds(p.Hello, id=st.integers(0, 2**31)),
    st.builds(p.Signal, id=st.integers(0, 9), signal=st.integers(1, 64), exec_id=texts),
    st.builds(p.Resize, id=st.integers(0, 9), height=st.integers(0, 9), width=st.integers(0, 9)),
    st.builds(
        p.StartExec, id=st.integers(0, 9), exec_id=texts, process=st.builds(oci.Process, args=st.lists(texts)),
        attach=st.none() | attaches, stdin=st.booleans(),
    ),
)  # fmt: skip


@given(spawns())
def test_spawn(spawn: p.Spawn) -> None:
    assert wire.decoder(p.Spawn).decode(wire.encode(spawn)) == spawn


@given(requests)
def test_requests(request: p.Message) -> None:
    assert wire.decoder(p.ToMonitor).decode(wire.encode(request)) == request


@settings(max_examples=40)
@given(st.integers(0, 3), st.sampled_from([1, 100, p.INLINE_MAX, p.INLINE_MAX + 1, 1_000_000]))
def test_datagrams_of_any_size_carry_descriptors(count: int, size: int) -> None:
    ours, theirs = wire.pair()
    pipes = [os.pipe() for _ in range(count)]
    try:
        data = os.urandom(size)
        wire.send(ours, data, [write for _, write in pipes])
        received = wire.receive(theirs)
        assert received is not None and received[0] == data and len(received[1]) == count
        for number, fd in enumerate(received[1]):
            assert not os.get_inheritable(fd)
            os.write(fd, bytes((number,)))
            assert os.read(pipes[number][0], 10) == bytes((number,))
        wire.close_all(received[1])
        ours.close()
        assert wire.receive(theirs) is None
    finally:
        ours.close()
        theirs.close()
        for pair in pipes:
            wire.close_all(pair)


@given(
    st.binary(max_size=30).map(lambda data: bytes(b % 3 for b in data)),
    st.lists(st.integers(0, 30)),
    st.binary(min_size=1, max_size=3),
)
def test_detach_keys_are_found_however_the_input_is_cut(data: bytes, cuts: list[int], raw: bytes) -> None:
    keys = bytes(b % 3 for b in raw)
    scanner, passed, found = DetachKeys(keys), b"", False
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(bounds):
        part, found = scanner.feed(data[start:end])
        passed += part
        if found:
            break
    before, separator, _ = data.partition(keys)
    assert found == bool(separator)
    if found:
        assert passed == before
    else:
        assert data.startswith(passed) and keys.startswith(data[len(passed) :])
