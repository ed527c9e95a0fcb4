"""What a process said last is heard, whatever it left unread."""

from __future__ import annotations

from hooper.runtime import wire


def test_the_last_word_of_a_peer_that_did_not_read_ours() -> None:
    ours, theirs = wire.pair()
    wire.send(ours, b"never read")
    wire.send(theirs, b"the last word")
    theirs.close()
    assert wire.receive(ours) == (b"the last word", [])
    assert wire.receive(ours) is None
    ours.close()


def test_a_peer_that_ends_without_a_word() -> None:
    ours, theirs = wire.pair()
    wire.send(ours, b"never read")
    theirs.close()
    assert wire.receive(ours) is None
    ours.close()
