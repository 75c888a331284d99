"""
hub.dedupe: which chunks were received before.
"""

import random
import zlib

import pytest

from hub import entries as codec
from hub.dedupe import ROW_BYTES, Dedupe
from hub.entries import NS
from hub.message import Batch, Loss, Peer
from hub.wire import chunkid
from hub.wire.forward import ForwardDecoder
from tests.hub.clients import chunks_of, frame_of

NOW = 1_700_000_000 * NS
ALICE, BOB = Peer(1, 1001, 1001, "alice"), Peer(2, 1002, 1002, "bob")


def chunk_of(session: int, counter: int) -> bytes:
    return chunkid.pack_own(f"{session:022d}", counter)


def entries_of(text: str) -> bytes:
    return codec.join((codec.UNSTAMPED + b"\x81\xa1t" + bytes((0xA0 | len(text),)) + text.encode(),), 1)


def batches(*chunks: bytes | None, tag: bytes = b"app", peer: Peer = ALICE, text: str = "x") -> list[Batch]:
    return [Batch(tag, entries_of(text), 1, chunk, peer) for chunk in chunks]


def is_unseen(
    dedupe: Dedupe, chunk: bytes, now: int = NOW, tag: bytes = b"app", peer: Peer = ALICE, text: str = "x"
) -> bool:
    return bool(dedupe.unseen(batches(chunk, tag=tag, peer=peer, text=text), now))


def test_a_batch_without_a_chunk_id_is_always_unseen() -> None:
    """A chunk without an id is never a resend, not even of itself."""
    dedupe, two = Dedupe(), batches(None, None)
    dedupe.remember(two, NOW)
    assert dedupe.unseen(two, NOW) == two


def test_a_session_remembers_its_highest_counter() -> None:
    """Every counter up to the highest is a resend, after any time; higher ones and other sessions are unseen."""
    dedupe = Dedupe()
    dedupe.remember(batches(chunk_of(1, 5), chunk_of(1, 3)), NOW)
    for now in (NOW, NOW + 10**6 * NS):
        assert [is_unseen(dedupe, chunk_of(1, counter), now) for counter in (0, 3, 4, 5, 6)] == [False] * 4 + [True]
        assert is_unseen(dedupe, chunk_of(2, 0), now)


@pytest.mark.parametrize("counter", [0, 1, chunkid.COUNTER_MAX])
def test_the_first_and_the_last_counter_are_like_any_other(counter: int) -> None:
    """A session may begin with any counter, and every counter survives a snapshot."""
    dedupe, again = Dedupe(), Dedupe()
    assert is_unseen(dedupe, chunk_of(1, counter))
    dedupe.remember(batches(chunk_of(1, counter)), NOW)
    again.restore(dedupe.snapshot(NOW), NOW)
    assert not is_unseen(dedupe, chunk_of(1, counter))
    assert not is_unseen(again, chunk_of(1, counter))


def test_a_foreign_id_is_a_repeat_within_the_window_of_its_first() -> None:
    """A resend has the same tag, up to the last nanosecond of the window, and does not extend the window."""
    dedupe = Dedupe(window_s=600)
    chunk = chunkid.pack("abc")
    dedupe.remember(batches(chunk), NOW)
    assert not is_unseen(dedupe, chunk, NOW + 300 * NS)
    assert not is_unseen(dedupe, chunk, NOW + 600 * NS)
    assert is_unseen(dedupe, chunk, NOW + 600 * NS + 1)
    assert is_unseen(dedupe, chunk, tag=b"other")
    assert is_unseen(dedupe, chunkid.pack(b"abc"))  # the same bytes in another msgpack type are another id


def test_equal_ids_of_two_workers_are_two_chunks() -> None:
    """Two programs of one user with the same tag and counters from 1 lose nothing."""
    dedupe, one = Dedupe(), chunkid.pack("1")
    first, second = batches(one, text="from a"), batches(one, text="from b")
    assert dedupe.unseen([*first, *second], NOW) == [*first, *second]
    dedupe.remember(first, NOW)
    assert dedupe.unseen([*first, *second], NOW) == second


def test_content_is_compared_by_length_and_checksum() -> None:
    """A checksum in the batch equals a computed one; another length is another chunk."""
    dedupe, (batch,) = Dedupe(), batches(chunkid.pack("a"))
    dedupe.remember([batch], NOW)
    same = Batch(batch.tag, batch.entries, 1, batch.chunk_id, ALICE, crc=zlib.crc32(batch.entries))
    longer = Batch(batch.tag, bytes(batch.entries) + b"\xc0", 1, batch.chunk_id, ALICE, crc=same.crc)
    assert dedupe.unseen([same], NOW) == []
    assert dedupe.unseen([longer], NOW) == [longer]


@pytest.mark.parametrize("chunk", [chunk_of(1, 7), chunkid.pack("7")], ids=["own", "foreign"])
def test_a_chunk_of_one_user_is_no_repeat_of_anothers(chunk: bytes) -> None:
    """No chunk of one user is a resend of another user's, whatever ids and content are sent first."""
    dedupe = Dedupe()
    dedupe.remember(batches(chunk, chunk_of(1, chunkid.COUNTER_MAX), peer=BOB), NOW)
    assert is_unseen(dedupe, chunk, peer=ALICE)
    assert not is_unseen(dedupe, chunk, peer=BOB)
    asked = [*batches(chunk, peer=BOB), *batches(chunk, peer=ALICE)]
    assert Dedupe().unseen(asked, NOW) == asked


@pytest.mark.parametrize("chunk", [chunk_of(1, chunkid.COUNTER_MAX), chunkid.pack("1")], ids=["own", "foreign"])
def test_a_chunk_without_messages_takes_no_row(chunk: bytes) -> None:
    """A chunk without messages takes no row, because it contains nothing that could be stored twice."""
    dedupe, empty = Dedupe(), Batch(b"app", codec.join((), 0), 0, chunk, ALICE)
    before = dedupe.snapshot(NOW)
    assert dedupe.unseen([empty, empty], NOW) == [empty, empty]
    dedupe.remember([empty], NOW)
    assert dedupe.snapshot(NOW) == before
    assert is_unseen(dedupe, chunk)


def test_the_same_loss_sent_again_is_recognised() -> None:
    """A loss that is resent because its acknowledgement was lost is stored once."""
    dedupe, loss = Dedupe(), Loss("too large", 3, 1000, b"sample", b"app", chunkid.pack("id"))
    dedupe.remember([loss.as_batch(peer=ALICE)], NOW)
    assert dedupe.unseen([loss.as_batch(peer=ALICE)], NOW + NS) == []


def test_tag_and_id_are_not_confused() -> None:
    """Bytes moved from the end of a tag to the beginning of an id make another key."""
    dedupe = Dedupe()
    dedupe.remember(batches(b"bc", tag=b"a"), NOW)
    assert is_unseen(dedupe, b"c", tag=b"ab")


def test_a_foreign_id_begins_a_new_window_when_it_is_stored_again() -> None:
    """After its window, a chunk is stored again, and recognised from then on."""
    dedupe = Dedupe(window_s=10)
    chunk = chunkid.pack("abc")
    dedupe.remember(batches(chunk), NOW)
    dedupe.remember(batches(chunk), NOW + 11 * NS)
    assert not is_unseen(dedupe, chunk, NOW + 21 * NS)


def test_repeats_among_what_is_asked_together() -> None:
    """Of two batches with one id, or of a session that goes back, the later one is left out; the order is kept."""
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
    assert Dedupe().unseen(asked, NOW) == [asked[0], asked[1], asked[2], asked[4], asked[6]]


def test_asking_changes_nothing() -> None:
    """Only `remember` changes a row, so a commit that fails can be repeated."""
    dedupe, asked = Dedupe(), batches(chunk_of(1, 1), chunkid.pack("x"))
    before = dedupe.snapshot(NOW)
    assert dedupe.unseen(asked, NOW) == dedupe.unseen(asked, NOW) == asked
    assert dedupe.snapshot(NOW) == before


# Limits.


def test_the_session_unused_for_longest_goes_first() -> None:
    """The number of sessions is limited, and the least recently used one is dropped first."""
    dedupe = Dedupe(rows_max=3)
    for session in (1, 2, 3, 1, 4):
        dedupe.remember(batches(chunk_of(session, session)), NOW)
    assert [is_unseen(dedupe, chunk_of(session, 1)) for session in (1, 2, 3, 4)] == [False, True, False, False]


def test_the_oldest_foreign_id_goes_first() -> None:
    """The number of foreign ids is limited too, within the window."""
    dedupe = Dedupe(rows_max=2)
    for name in "abc":
        dedupe.remember(batches(chunkid.pack(name)), NOW)
    assert [is_unseen(dedupe, chunkid.pack(name)) for name in "abc"] == [True, False, False]


def test_a_user_with_few_rows_keeps_them_whatever_another_sends() -> None:
    """A flood of sessions and ids pushes out rows of its sender only, and of no user with fewer rows."""
    dedupe = Dedupe(rows_max=100)
    mine = batches(*(chunk_of(session, 1) for session in range(40)), *(chunkid.pack(str(n)) for n in range(40)))
    dedupe.remember(mine, NOW)
    for number in range(1000):
        dedupe.remember(batches(chunk_of(number, 9), chunkid.pack(f"flood {number}"), peer=BOB), NOW)
    assert dedupe.unseen(mine, NOW) == []
    assert [is_unseen(dedupe, chunk_of(number, 9), peer=BOB) for number in (939, 940, 999)] == [True, False, False]


def test_any_users_are_bounded_by_taking_from_the_largest() -> None:
    """Whatever is sent, the limit holds, and a row is only taken from a user with the most rows at that moment."""
    rng = random.Random(7)
    dedupe, held = Dedupe(rows_max=50), dict.fromkeys(range(9), 0)
    for number in range(2000):
        user = rng.choice((0, 0, 0, 1, 1, rng.randrange(9)))
        held[user] += 1
        if sum(held.values()) > 50:
            most = {each for each, rows in held.items() if rows == max(held.values())}
            dedupe.remember(batches(chunk_of(number, 1), peer=Peer(uid=user)), NOW)
            sizes = {each: len(rows) for each, rows in dedupe._sessions.users()}
            (loser,) = [each for each in held if sizes.get(each, 0) < held[each]]
            assert loser in most
            held[loser] -= 1
        else:
            dedupe.remember(batches(chunk_of(number, 1), peer=Peer(uid=user)), NOW)
        assert {each: rows for each, rows in held.items() if rows} == {
            each: len(rows) for each, rows in dedupe._sessions.users()
        }


def test_a_lower_limit_holds_at_once() -> None:
    """A lower limit applies at once, and the newest rows are kept."""
    dedupe = Dedupe(rows_max=100)
    dedupe.remember(batches(*(chunk_of(number, 1) for number in range(100))), NOW)
    dedupe.bound(10)
    assert [is_unseen(dedupe, chunk_of(number, 1)) for number in (0, 89, 90, 99)] == [True, True, False, False]


def test_a_row_takes_no_more_of_a_snapshot_than_is_planned() -> None:
    """A row of each table, with the largest numbers, takes no more bytes than the limit in rows assumes."""
    dedupe = Dedupe()
    peer = Peer(uid=2**32 - 2)
    for number in range(1000):
        dedupe.remember(batches(chunk_of(number, chunkid.COUNTER_MAX), chunkid.pack(str(number)), peer=peer), NOW)
    assert len(dedupe.snapshot(NOW)) <= 1000 * ROW_BYTES


def test_foreign_ids_beyond_the_window_are_let_go() -> None:
    """Foreign ids older than the window are not in the next snapshot."""
    dedupe = Dedupe(window_s=10)
    empty = dedupe.snapshot(NOW)
    dedupe.remember(batches(chunkid.pack("a"), chunkid.pack("b")), NOW)
    assert len(dedupe.snapshot(NOW)) > len(empty)
    only = Dedupe(window_s=10)
    for each in (dedupe, only):
        each.remember(batches(chunkid.pack("a")), NOW + 11 * NS)  # again, and so the newest one
    assert dedupe.snapshot(NOW + 11 * NS) == only.snapshot(NOW + 11 * NS)
    assert dedupe.snapshot(NOW + 22 * NS) == empty


# Snapshots.


def test_a_snapshot_restores_all_of_it() -> None:
    """After `restore` every decision is the same as before."""
    rng = random.Random(1)
    dedupe = Dedupe(rows_max=20)
    for _ in range(500):
        own, foreign = chunk_of(rng.randrange(30), rng.randrange(9)), chunkid.pack(str(rng.randrange(30)))
        again = Dedupe(rows_max=20)
        again.restore(dedupe.snapshot(NOW), NOW)
        assert again.snapshot(NOW) == dedupe.snapshot(NOW)
        asked = batches(own, foreign, peer=rng.choice((ALICE, BOB)))
        assert again.unseen(asked, NOW) == dedupe.unseen(asked, NOW)
        again.remember(asked, NOW)
        dedupe.remember(asked, NOW)
        assert again.snapshot(NOW) == dedupe.snapshot(NOW)


def test_a_restored_id_has_its_whole_window() -> None:
    """A restored id has its whole window, because the length of the stop is unknown."""
    dedupe, again = Dedupe(window_s=10), Dedupe(window_s=10)
    dedupe.remember(batches(chunkid.pack("a")), NOW)
    later = 5  # a clock that starts with the machine
    again.restore(dedupe.snapshot(NOW + 9 * NS), later)
    assert not is_unseen(again, chunkid.pack("a"), later + 10 * NS)
    assert is_unseen(again, chunkid.pack("a"), later + 10 * NS + 1)


@pytest.mark.parametrize(
    "snapshot", [b"", b"\x92\x90", b"\xc1", b"\x91\x90", b"\x92\x91\x92\xa1x\x01\x90", b"\x92\x90\x90\0"]
)
def test_what_is_no_snapshot_is_refused(snapshot: bytes) -> None:
    """A truncated or malformed snapshot raises ValueError, and the tables stay unchanged."""
    dedupe = Dedupe()
    dedupe.remember(batches(chunk_of(1, 1)), NOW)
    with pytest.raises(ValueError, match="not a snapshot"):
        dedupe.restore(snapshot, NOW)
    assert not is_unseen(dedupe, chunk_of(1, 1))


@pytest.mark.parametrize("seed", range(20))
def test_a_run_of_chunks_is_like_its_chunks(seed: int) -> None:
    """However chunks are gathered into batches and resent, what is left of them is what is left of single chunks."""
    dice = random.Random(seed)
    single, gathered = Dedupe(), Dedupe()
    for _ in range(30):
        first = dice.randrange(1, 30)
        runs = [
            sorted(dice.sample(range(first, first + 12), dice.randrange(1, 6))) for _ in range(dice.randrange(1, 4))
        ]
        commit = [run_of(dice.randrange(2), *counters) for counters in runs]
        left = gathered.unseen(commit, NOW)
        chunks = [chunk for batch in commit for chunk in chunks_of(batch)]
        expected = single.unseen(chunks, NOW)
        assert [texts(batch) for one in left for batch in chunks_of(one)] == [texts(batch) for batch in expected]
        assert sum(batch.chunk_count for batch in left) == len(expected)
        assert all(len(list(batch.messages())) == batch.count for batch in left)
        if dice.random() < 0.8:  # else the commit failed
            gathered.remember(left, NOW)
            single.remember(expected, NOW)
    assert gathered.snapshot(NOW) == single.snapshot(NOW)


def run_of(session: int, *counters: int) -> Batch:
    """Return a batch made of chunks with these *counters*, each with one to three messages."""
    frames = (frame_of(chunk_of(session, n), *({"t": f"{n}.{at}"} for at in range(1 + n % 3))) for n in counters)
    (batch,) = ForwardDecoder(ALICE).receive(b"".join(frames))
    assert isinstance(batch, Batch)
    return batch


def texts(batch: Batch) -> list[str]:
    return [message.record["t"] for message in batch.messages()]
