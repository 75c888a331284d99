"""hub.journal.rewriting: segments are packed, and what has expired by rule is left out, over kills and power cuts."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable

import pytest

from hub.dedupe import Dedupe
from hub.errors import JournalLost
from hub.journal import rewriting
from hub.journal.block import BLOCK_BYTES
from hub.journal.reader import Gap, Reader
from hub.journal.recovery import recover
from hub.journal.retention import NOTHING_NEEDED
from hub.journal.rewriting import first_of, remove_unfinished, replaces, rewrite
from hub.journal.segment import Segment, list_segments, segment_name
from hub.journal.verify import verify
from hub.message import Batch
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import (
    Life,
    Producers,
    at,
    batch,
    blocks_of,
    check_recovery,
    flipped,
    moments,
    own,
    read_all,
    rows_of,
    seen_of,
    stored,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "FRAME_BYTES", 600)


def is_debug(batch: Batch) -> bool:
    return batch.tag == b"debug"


def filled(life: Life, count: int = 60) -> Life:
    """Append blocks of two tags in turn, some with chunk ids, some with positions."""
    for number in range(count):
        tag = (b"app", b"debug")[number % 2]
        life.append(batch(str(number), 3, size=100, tag=tag))
        if number % 5 == 0:
            life.append(own("a", number, size=120), at({b"x": number}, f"at{number}"), at({b"y": number}))
    return life


def rewritten(life: Life, number: int, has_expired: Callable[[Batch], bool] | None = None) -> str:
    name = rewrite(life.files, *list_segments(life.files)[number : number + 2], has_expired=has_expired)
    assert name is not None
    return name


def bytes_of(disk: ForgettingFiles) -> dict[str, bytes]:
    names, files = disk.contents()
    return {name: files[number] for name, number in names.items()}


def test_names() -> None:
    """A new form has a name that no other file has."""
    assert first_of("00000000000000000012.seg.0123abcd.tmp") == 12
    for name in ("00000000000000000012.seg", "new.tmp", "00000000000000000012.idx.tmp", "x.seg.0123abcd.tmp"):
        assert first_of(name) is None


def test_what_has_expired_is_passed_over() -> None:
    """Its messages are neither returned nor missing; all others are as before, from any sequence on."""
    disk = ForgettingFiles()
    life = filled(Life(disk, segment_bytes=4000))
    before = read_all(disk)
    reader = Reader(disk)
    debug = {found.sequence for found in reader.read() if isinstance(found, Batch) and is_debug(found)}
    reader.close()
    last = list_segments(disk)[-1]
    for number in range(len(list_segments(disk)) - 1):
        if number % 2:  # one in one step, the other packed before
            assert life.writer.adopt(rewritten(life, number))
        assert life.writer.adopt(rewritten(life, number, is_debug))
    kept = [item for item in before if item.sequence not in debug or item.sequence >= last]
    assert 0 < len(kept) < len(before)
    for after in range(before[-1].sequence + 4):
        assert read_all(disk, after=after) == [item for item in kept if item.sequence + item.messages - 1 > after]
    checked = verify(disk)
    assert (checked.faults, checked.messages) == ((), sum(item.messages for item in kept))
    assert checked.expired == sum(item.messages for item in before) - checked.messages
    assert rewrite(disk, *list_segments(disk)[:2], has_expired=is_debug) is None, "nothing more has expired"
    assert rewrite(disk, *list_segments(disk)[:2]) is None, "it is packed"


def test_what_was_left_out_takes_no_space() -> None:
    """The entries are gone: their text is nowhere in the segment, and the file is smaller than without leaving out."""
    disk = ForgettingFiles()
    life = Life(disk, segment_bytes=6000)
    rng = random.Random(3)
    for number in range(60):
        secret = batch(f"secret{number}", 1, tag=b"debug")
        noise = rng.randbytes(100)
        entries = b"\xdd\0\0\0\1\x92\xc0\x81\xa6secret\xc4\x64" + noise
        life.append(Batch(b"debug", entries, 1, None, secret.peer), batch(str(number), 1))
    first = list_segments(disk)[0]
    noises = [block.offset for block in blocks_of(disk, first)]
    assert noises
    packed = rewritten(life, 0)
    lean = rewritten(life, 0, is_debug)
    sizes = {name: len(data) for name, data in bytes_of(disk).items()}
    assert sizes[lean] < 2 * sizes[packed] // 3
    assert life.writer.adopt(lean)
    with Segment(disk, first) as segment:
        assert b"secret" not in segment.file.read(0, segment.size)


def test_chunk_ids_and_positions_of_what_has_expired() -> None:
    """A resend is still a duplicate and positions hold where recovery has to go back to such a segment."""
    disk = ForgettingFiles()
    life = Life(disk, segment_bytes=2000)
    batches = [
        *(own("a", number, size=150) for number in range(1, 9)),
        *(at({b"x": number}, f"x{number}", size=150) for number in range(9)),
        own("a", 9),
    ]
    for each in batches:
        life.append(each)
    first, second, last = list_segments(disk)[-3:]
    del first
    rows = rows_of(life.writer.positions)
    name = rewrite(disk, second, last, has_expired=lambda batch: True)
    assert name is not None
    assert life.writer.adopt(name)
    disk.overwrite(segment_name(last), flipped(seen_of(disk, last), 8 * 30))  # now its header is damaged
    again = Life(disk.after_kill(), segment_bytes=2000)
    assert rows_of(again.writer.positions) == rows
    assert again.append(*(each for each in batches if each.chunk_id)).stored == 0


def test_damage_beside_what_has_expired() -> None:
    """It is a loss of the right number of messages, and what has expired is none, unless its front is damaged."""
    disk = ForgettingFiles()
    life = Life(disk, segment_bytes=4000)
    for number in range(40):
        life.append(batch(str(number), 3, size=100, tag=(b"app", b"debug")[number % 2]))
    first = list_segments(disk)[1]
    assert life.writer.adopt(rewritten(life, 1, is_debug))
    whole, expired = read_all(disk), verify(disk).expired
    data = seen_of(disk, first)
    found = Reader(disk)
    assert not [each for each in found.read() if isinstance(each, Gap)]
    found.close()
    with Segment(disk, first) as segment:
        assert segment.file.directory is not None
        rows = [segment.file.directory.row(number) for number in range(segment.file.directory.head.frames)]
    for row in rows[1:-1]:
        disk.overwrite(segment_name(first), flipped(data, 8 * (row.at + row.packed // 2)))
        reader = Reader(disk)
        items = [stored(each) for each in reader.read()]
        reader.close()
        gaps = [item for item in items if item.entries is None]
        assert len(gaps) == 1
        kept = [item for item in items if item.entries is not None]
        assert kept == [item for item in whole if item in kept]
        everything = sum(item.messages for item in items) + reader.expired
        assert everything == sum(item.messages for item in whole) + expired


def test_only_what_is_whole_is_rewritten() -> None:
    """A segment with damage, without its header, or that lacks messages at its end stays as it is, whatever expires."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    first, second, third = list_segments(disk)[:3]
    data = seen_of(disk, first)
    block = blocks_of(disk, first)[1]
    for damage in (20, block.offset + 10, block.offset + BLOCK_BYTES + 60):
        disk.overwrite(segment_name(first), flipped(data, 8 * damage))
        assert rewrite(disk, first, second) is None
        assert rewrite(disk, first, second, has_expired=is_debug) is None
    disk.overwrite(segment_name(first), data[: block.end])
    assert rewrite(disk, first, second) is None
    disk.overwrite(segment_name(first), data)
    assert rewrite(disk, first, third) is None
    name = rewrite(disk, first, second)
    assert name is not None
    remove_unfinished(disk)
    assert not [each for each in disk.list() if first_of(each) is not None]
    assert life.writer.last_sequence


def test_a_segment_that_was_given_up() -> None:
    """Blocks after its end, which do not count, are not in the new form; the rest is."""
    disk = ForgettingFiles()
    life = filled(Life(disk), 6)
    disk.fail("sync", times=1)
    disk.fail("truncate", times=1)
    life.append(batch("again", 3, size=100))
    filled(life, 10)
    firsts = list_segments(disk)
    before = read_all(disk)
    sizes = [len(seen_of(disk, first)) for first in firsts[:-1]]
    for number, size in enumerate(sizes):
        assert life.writer.adopt(rewritten(life, number))
        assert len(seen_of(disk, firsts[number])) < size
    assert read_all(disk) == before
    assert verify(disk).faults == ()


def test_only_a_whole_form_of_the_segment_is_put_in_place() -> None:
    """One that is torn, of another segment, or older than what is there is removed, and the segment stays."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    before, names = read_all(disk), {*disk.list()}
    first, second, third = list_segments(disk)[:3]
    name = rewritten(life, 0)
    data = bytes_of(disk)[name]
    for torn in (data[:-1], data[: len(data) // 2], bytes(512) + data[512:], data[:-512] + bytes(512), b""):
        disk.overwrite(name, torn)
        assert not replaces(disk, name, second)
        assert not life.writer.adopt(name)
    other = name.replace(segment_name(first), segment_name(second))
    disk.overwrite(other, data)
    assert not life.writer.adopt(other)
    disk.overwrite(name, data)
    assert not replaces(disk, name, third)
    assert not life.writer.adopt("00000000000000000001.seg.00000000.tmp"), "it is gone"
    assert not life.writer.adopt("no name")
    packed = rewritten(life, 0)
    assert life.writer.adopt(rewritten(life, 0, is_debug))
    assert not life.writer.adopt(packed), "it has more than what is in place"
    assert {*disk.list()} == names | {name}
    assert [item for item in before if item.sequence >= second] == read_all(disk, after=second - 1)


def test_a_segment_that_expires_meanwhile() -> None:
    """It does not come back."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    name = rewritten(life, 0)
    life.writer.retain(life.writer.size_bytes // 2, None)
    assert life.writer.expire() > 0
    left = disk.list()
    assert not life.writer.adopt(name)
    assert {*disk.list()} == {*left} - {name}


def test_without_the_lock() -> None:
    """Nothing is renamed or removed."""
    disk = ForgettingFiles()
    has_lock = True
    life = filled(Life(disk, is_ours=lambda: has_lock))
    name = rewritten(life, 0)
    has_lock = False
    before = bytes_of(disk)
    with pytest.raises(JournalLost):
        life.writer.adopt(name)
    assert bytes_of(disk) == before


def test_a_form_that_is_not_in_place_counts() -> None:
    """The oldest segments are deleted for it, as for everything else."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    life.writer.retain(life.writer.size_bytes, None)
    name = rewritten(life, 1)
    firsts = list_segments(disk)
    assert life.writer.expire() == 1
    assert (list_segments(disk), name in disk.list()) == (firsts[1:], True)
    assert life.writer.adopt(name)
    assert life.writer.expire() == 0


def test_a_segment_without_messages_that_count() -> None:
    """The oldest segments are deleted when all of their messages have expired, also after a restart; no others are."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    firsts = list_segments(disk)
    for number in (0, 1, 3):
        assert life.writer.adopt(rewritten(life, number, lambda _: True))
    assert life.writer.adopt(rewritten(life, 2, is_debug))
    assert list_segments(Life(disk.after_kill()).files)[0] == firsts[2]
    life.writer.needed_from = firsts[1]
    assert life.writer.expire() == 1
    life.writer.needed_from = NOTHING_NEEDED
    assert life.writer.expire() == 1
    assert list_segments(disk) == firsts[2:]


def test_a_reader_of_a_segment_that_is_replaced_and_expires() -> None:
    """It reads to the end of the form that it has open, and goes on with the next segment."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    whole, reader = read_all(disk), Reader(disk)
    first = stored(next(reader.read()))
    assert life.writer.adopt(rewritten(life, 0))
    disk.remove(segment_name(1))
    assert read_all(disk) != whole
    assert [first, *map(stored, reader.read())] == whole
    reader.close()


def test_the_size_is_that_on_the_disk() -> None:
    """It shrinks with each segment that is put in place, and is the same after a restart."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    before = life.writer.size_bytes
    for number in range(len(list_segments(disk)) - 1):
        assert life.writer.adopt(rewritten(life, number))
        assert life.writer.size_bytes < before
        before = life.writer.size_bytes
        assert before == sum(len(data) for name, data in bytes_of(disk).items() if name.endswith(".seg"))
    life.writer.close()
    kept = life.writer._sealed
    left = disk.after_kill()
    assert recover(disk.after_kill(), Dedupe(), now=0).segments[: len(kept)] == kept
    again = Life(left)
    assert again.writer.size_bytes == sum(len(data) for name, data in bytes_of(left).items() if name.endswith(".seg"))


def test_dying_at_any_step() -> None:
    """Killed or without power at each step of it, the journal has every message once, and nothing is left behind."""
    disk = ForgettingFiles()
    producers = Producers()
    life = Life(disk)
    for number in range(12):
        producers.send(life, own("a", number + 1, 2, size=150), batch(str(number), 2, size=100))

    def run() -> None:
        for number in range(2):
            life.writer.adopt(rewritten(life, number))

    rng = random.Random(6)
    found = moments(disk, producers, run)
    assert len(found) > 10
    for moment in found:
        for after in (moment.disk.after_kill(), *moment.disk.power_cuts(rng, 2)):
            check_recovery(after, moment.producers)
            assert not [name for name in after.list() if first_of(name) is not None]
    assert not [name for name in disk.list() if first_of(name) is not None]


def test_dying_while_messages_are_left_out() -> None:
    """At each step, a segment has all of them or none, and everything else."""
    disk = ForgettingFiles()
    life = filled(Life(disk), 8)
    before = read_all(disk)
    firsts = list_segments(disk)
    found = moments(disk, Producers(), lambda: life.writer.adopt(rewritten(life, 0, is_debug)))
    after = read_all(disk)
    assert len(after) < len(before)
    seen = set()
    for moment in found:
        for left in (moment.disk.after_kill(), *moment.disk.power_cuts(random.Random(1), 3)):
            items = read_all(left)
            assert items in (before, after)
            seen.add(items == after)
            recover(left, Dedupe(), now=0)
            assert read_all(left) == items
            assert list_segments(left) == firsts
    assert seen == {True, False}


def test_a_disk_that_fails_or_is_full() -> None:
    """Whichever step fails, the segment stays whole, and the next attempt succeeds."""
    disk = ForgettingFiles()
    life = filled(Life(disk))
    before = read_all(disk)
    for step in ("create", "page", "sync_all", "rename", "sync_folder"):
        disk.fail(step, errno.ENOSPC if step in ("create", "page") else errno.EIO)
        with pytest.raises(OSError, match=r"No space left|error"):
            life.writer.adopt(rewritten(life, 0))
        assert read_all(disk) == before
        if step not in ("rename", "sync_folder"):
            assert not [each for each in disk.list() if first_of(each) is not None]
    with Segment(disk, list_segments(disk)[0]) as segment:
        assert segment.is_packed, "only the last step failed"
    assert life.writer.adopt(rewritten(life, 1))
    assert read_all(disk) == before


@pytest.mark.parametrize("with_empty", [False, True])
def test_readers_of_a_segment_that_is_replaced(with_empty: bool) -> None:
    """Wherever a reader stands, also at the end of the last segment, it returns everything once."""
    disk = ForgettingFiles()
    life = filled(Life(disk), 12)
    life.append(at({b"z": 1}))

    def read(reader: Reader) -> list[object]:
        return [stored(each) for each in reader.read(follow=True)]

    whole = read(Reader(disk, with_empty=with_empty))
    for taken in range(len(whole) + 1):
        copy = disk.after_kill()
        reader = Reader(copy, with_empty=with_empty)
        found: list[object] = [stored(each) for each in itertools.islice(reader.read(follow=True), taken)]
        again = Life(copy)
        again.append(batch("more", 3, size=2000))  # the segment is sealed, and another one begins
        again.append(batch("most", 3, size=2000))
        for number in range(len(list_segments(copy)) - 1):
            name = rewrite(copy, *list_segments(copy)[number : number + 2])
            assert name is None or again.writer.adopt(name)
        found += read(reader)
        reader.close()
        assert found[: len(whole)] == whole
        assert found[len(whole) :] == read_all(copy)[-2:]
