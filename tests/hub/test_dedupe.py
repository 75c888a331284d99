"""hub.dedupe: what was received already."""

import random

import pytest

from hub.dedupe import Dedupe
from hub.entries import NS
from hub.message import Batch
from hub.wire import chunkid

NOW = 1_700_000_000 * NS


def chunk_of(session: int, counter: int) -> bytes:
    return chunkid.pack_own(f"{session:022d}", counter)


def batches(*chunks: bytes | None, tag: bytes = b"app") -> list[Batch]:
    return [Batch(tag, b"\xdd\0\0\0\0", 0, chunk) for chunk in chunks]


def is_fresh(dedupe: Dedupe, chunk: bytes, now: int = NOW, tag: bytes = b"app") -> bool:
    return bool(dedupe.fresh(batches(chunk, tag=tag), now))


def test_a_batch_without_a_chunk_id_is_always_fresh() -> None:
    """Who gives no chunk id is never taken for a repeat, not even of itself."""
    dedupe, two = Dedupe(), batches(None, None)
    dedupe.remember(two, NOW)
    assert dedupe.fresh(two, NOW) == two


def test_a_session_remembers_its_highest_counter() -> None:
    """Everything up to it is a repeat, after any time; everything above it and every other session is fresh."""
    dedupe = Dedupe()
    dedupe.remember(batches(chunk_of(1, 5), chunk_of(1, 3)), NOW)
    for now in (NOW, NOW + 10**6 * NS):
        assert [is_fresh(dedupe, chunk_of(1, counter), now) for counter in (0, 3, 4, 5, 6)] == [False] * 4 + [True]
        assert is_fresh(dedupe, chunk_of(2, 0), now)


@pytest.mark.parametrize("counter", [0, 1, chunkid.COUNTER_MAX])
def test_the_first_and_the_last_counter_are_like_any_other(counter: int) -> None:
    """A session may begin with any counter, and each survives the snapshot."""
    dedupe, again = Dedupe(), Dedupe()
    assert is_fresh(dedupe, chunk_of(1, counter))
    dedupe.remember(batches(chunk_of(1, counter)), NOW)
    again.restore(dedupe.snapshot())
    assert not is_fresh(dedupe, chunk_of(1, counter))
    assert not is_fresh(again, chunk_of(1, counter))


def test_a_foreign_id_is_a_repeat_within_the_window_of_its_first() -> None:
    """A repeat is one under the same tag, up to the window's last nanosecond, and does not lengthen it."""
    dedupe = Dedupe(window_s=600)
    chunk = chunkid.pack("abc")
    dedupe.remember(batches(chunk), NOW)
    assert not is_fresh(dedupe, chunk, NOW + 300 * NS)
    assert not is_fresh(dedupe, chunk, NOW + 600 * NS)
    assert is_fresh(dedupe, chunk, NOW + 600 * NS + 1)
    assert is_fresh(dedupe, chunk, tag=b"other")
    assert is_fresh(dedupe, chunkid.pack(b"abc"))  # the same bytes in another msgpack type are another id


def test_tag_and_id_are_not_confused() -> None:
    """What moves from the end of a tag to the beginning of an id makes another key."""
    dedupe = Dedupe()
    dedupe.remember(batches(b"bc", tag=b"a"), NOW)
    assert is_fresh(dedupe, b"c", tag=b"ab")


def test_a_foreign_id_begins_a_new_window_when_it_is_stored_again() -> None:
    """Beyond its window it is stored like a new one, and recognised from then on."""
    dedupe = Dedupe(window_s=10)
    chunk = chunkid.pack("abc")
    dedupe.remember(batches(chunk), NOW)
    dedupe.remember(batches(chunk), NOW + 11 * NS)
    assert not is_fresh(dedupe, chunk, NOW + 21 * NS)


def test_repeats_among_what_is_asked_together() -> None:
    """Of two batches with one id, or a session that goes back, the later one is left out; order is kept."""
    chunks = [
        chunk_of(1, 1),
        chunkid.pack("x"),
        chunk_of(1, 2),
        chunkid.pack("x"),
        None,
        chunk_of(1, 1),
        chunk_of(2, 1),
    ]
    asked = batches(*chunks)
    assert Dedupe().fresh(asked, NOW) == [asked[0], asked[1], asked[2], asked[4], asked[6]]


def test_asking_changes_nothing() -> None:
    """Only `remember` takes note, so a commit that fails may be given again."""
    dedupe, asked = Dedupe(), batches(chunk_of(1, 1), chunkid.pack("x"))
    before = dedupe.snapshot()
    assert dedupe.fresh(asked, NOW) == dedupe.fresh(asked, NOW) == asked
    assert dedupe.snapshot() == before


def test_the_session_unused_for_longest_goes_first() -> None:
    """The number of sessions is bounded; one that is used stays."""
    dedupe = Dedupe(sessions_max=3)
    for session in (1, 2, 3, 1, 4):
        dedupe.remember(batches(chunk_of(session, session)), NOW)
    assert [is_fresh(dedupe, chunk_of(session, 1)) for session in (1, 2, 3, 4)] == [False, True, False, False]


def test_the_oldest_foreign_id_goes_first() -> None:
    """The number of foreign ids is bounded too, within the window."""
    dedupe = Dedupe(foreign_max=2)
    for name in "abc":
        dedupe.remember(batches(chunkid.pack(name)), NOW)
    assert [is_fresh(dedupe, chunkid.pack(name)) for name in "abc"] == [True, False, False]


def test_foreign_ids_beyond_the_window_are_let_go() -> None:
    """They take no room in the next snapshot."""
    dedupe = Dedupe(window_s=10)
    empty = dedupe.snapshot()
    dedupe.remember(batches(chunkid.pack("a"), chunkid.pack("b")), NOW)
    assert len(dedupe.snapshot()) > len(empty)
    only = Dedupe(window_s=10)
    for each in (dedupe, only):
        each.remember(batches(chunkid.pack("a")), NOW + 11 * NS)  # again, and so the newest
    assert dedupe.snapshot() == only.snapshot()
    dedupe.remember([], NOW + 22 * NS)
    assert dedupe.snapshot() == empty


def test_a_snapshot_restores_all_of_it() -> None:
    """After `restore` everything is decided, and forgotten, as before."""
    rng = random.Random(1)
    dedupe = Dedupe(sessions_max=20, foreign_max=20, window_s=10)
    now = NOW
    for _ in range(500):
        now += rng.randrange(NS)
        own, foreign = chunk_of(rng.randrange(30), rng.randrange(9)), chunkid.pack(str(rng.randrange(30)))
        again = Dedupe(sessions_max=20, foreign_max=20, window_s=10)
        again.restore(dedupe.snapshot())
        assert again.snapshot() == dedupe.snapshot()
        asked = batches(own, foreign)
        assert again.fresh(asked, now) == dedupe.fresh(asked, now)
        again.remember(asked, now)
        dedupe.remember(asked, now)
        assert again.snapshot() == dedupe.snapshot()


@pytest.mark.parametrize(
    "snapshot", [b"", b"\x92\x90", b"\xc1", b"\x91\x90", b"\x92\x91\x92\xa1x\x01\x90", b"\x92\x90\x90\0"]
)
def test_what_is_no_snapshot_is_refused(snapshot: bytes) -> None:
    """Truncated, malformed or of another shape: ValueError, and what was remembered stays."""
    dedupe = Dedupe()
    dedupe.remember(batches(chunk_of(1, 1)), NOW)
    with pytest.raises(ValueError, match="not a snapshot"):
        dedupe.restore(snapshot)
    assert not is_fresh(dedupe, chunk_of(1, 1))


def test_a_clock_that_goes_back_makes_nothing_fresh() -> None:
    """A time before the first sight of a foreign id is within its window."""
    dedupe = Dedupe(window_s=10)
    dedupe.remember(batches(chunkid.pack("a")), NOW)
    assert not is_fresh(dedupe, chunkid.pack("a"), NOW - 100 * NS)
