"""hub.control.reading: steps, pieces, and what a reading keeps."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pytest

from hub import entries as codec
from hub.access import TagRights
from hub.control import reading
from hub.control.largebatches import LargeBatches
from hub.control.pieces import PIECE_BYTES
from hub.control.reading import PAGE_BYTES, REST_S_MAX, REST_S_MIN, Pace, Reading, Selection
from hub.journal import retention
from hub.journal.files import DiskFiles
from hub.journal.journal import Journal
from hub.journal.reader import Reader, open_reader
from hub.journal.rewriting import rewrite
from hub.journal.segment import list_segments, segment_name
from hub.message import LOSS_TAG, Batch
from hub.query.condition import Condition
from hub.query.indexing import make_indexes
from hub.query.query import Query
from tests.hub.clients import until
from tests.hub.control.journals import World, batch, numbered, world
from tests.hub.query.test_indexed import filters_of, index_small, journals, needles_in, plain
from tests.support import descriptors

ALL = TagRights(("*",))


def reading_of(there: World, after: int = 0, **filters: Any) -> Reading:
    return there.readings.begin(there.journal, Selection(rights=ALL, **filters), after)


def everything(reading: Reading, count: int = 1000) -> list[int]:
    """Return the sequences of all pages."""
    found: list[int] = []
    while True:
        page = reading.step(count)
        found += [msgspec.json.decode(each)["sequence"] for each in page.messages]
        assert len(page.messages) <= count
        if page.is_end:
            return found


def test_steps(tmp_path: Path) -> None:
    """With pages of any size, also if they end in the middle of a batch, every message arrives once and in order."""

    async def main() -> None:
        large = batch("a", *({"t": "x" * 1000} for _ in range(300)))
        async with world(tmp_path, numbered("a", 10), large, numbered("b", 10), large) as there:
            for count in (1, 7, 1000):
                reading, end = reading_of(there), there.journal.last_sequence
                assert everything(reading, count) == list(range(1, end + 1))
                await there.journal.append([numbered("c", 1)])
                assert everything(reading_of(there, 615)) == list(range(616, there.journal.last_sequence + 1))
                assert everything(reading)[-1] == there.journal.last_sequence
                reading.close()

    asyncio.run(main())


def test_old_segments_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading with *since* begins at the segment where that may be."""
    asked: list[Any] = []

    async def main() -> None:
        async with world(tmp_path, numbered("a", 10)) as there:
            read = there.journal.read

            def noted(**given: Any) -> Reader:
                asked.append(given)
                return read(**given)

            monkeypatch.setattr(there.journal, "read", noted)
            assert everything(reading_of(there, since=5)) == list(range(1, 11))
            assert everything(reading_of(there, since=1 << 62)) == []
            assert asked == [{"after": 0, "since": 5}, {"after": 0, "since": 1 << 62}]

    asyncio.run(main())


class Kept(NamedTuple):
    """A journal of which the files are left."""

    path: str

    def read(self, *, after: int = 0, since: int | None = None) -> Reader:
        return open_reader(self.path, after=after, since=since)


def kept(folder: Path, after: int = 0, **filters: Any) -> Reading:
    """Return a reading of the journal in *folder*, which no hub writes."""
    return Reading(cast(Journal, Kept(str(folder))), Selection(rights=ALL, **filters), after, LargeBatches())


def test_what_indexes_know_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any filters, in steps of any length, the messages are those of a reading without indexes."""
    index_small(monkeypatch)
    rng = random.Random(16)
    for folder, times in journals(tmp_path, rng, 6):
        for _ in range(10):
            filters, after = filters_of(rng, times), rng.choice([0, 0, rng.randrange(len(times) + 2)])
            monkeypatch.setattr(reading, "STEP_S", rng.choice([0.0, 60.0]))
            found = kept(folder, after, **filters)
            expected = [message.sequence for message in plain(folder, Query(**filters), after)]
            assert everything(found, rng.choice([1, 7, 1000])) == expected
            found.close()


def test_a_step_ends_between_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where indexes exclude everything, a step goes no further than its time, and the next one goes on from there."""
    index_small(monkeypatch)
    files = needles_in(tmp_path)
    make_indexes(files)
    firsts = list_segments(files)
    monkeypatch.setattr(reading, "STEP_S", 0.0)
    found = kept(tmp_path, tag="none")
    assert [found.step(1000).next for _ in firsts[1:]] == [following - 1 for following in firsts[1:]]
    assert everything(found) == []
    found.close()


@pytest.mark.parametrize("filters", [{}, {"grep": "needle"}, {"until": 1 << 62}], ids=["all", "grep", "until"])
def test_a_gap_is_reported_once(tmp_path: Path, filters: dict[str, Any]) -> None:
    """Also if a page ends with it: who goes on after the page does not get the rest of the gap as another one."""
    firsts = list_segments(needles_in(tmp_path))
    for first in firsts[1:4]:
        (tmp_path / segment_name(first)).unlink()
    found, missed, after, is_end = list[Any](), 0, 0, False
    while not is_end:
        pages = kept(tmp_path, after, **filters)
        page = pages.step(1)
        pages.close()
        found += map(msgspec.json.decode, page.messages)
        missed, after, is_end = missed + page.missed, page.next, page.is_end
    lost = firsts[4] - firsts[1]
    assert missed == lost
    assert [each["record"]["count"] for each in found if each["tag"] == LOSS_TAG.decode()] == [lost]
    assert [each["sequence"] for each in found] == [*range(1, firsts[1] + 1), *range(firsts[4], 61)]


@pytest.mark.parametrize("tag", [None, "app"], ids=["with losses", "without"])
def test_a_page_begins_with_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str | None) -> None:
    """So a caller knows where that was, also if the losses are not among the messages that it wants."""
    monkeypatch.setattr(reading, "STEP_S", 60.0)
    firsts = list_segments(needles_in(tmp_path))
    for first in (firsts[1], firsts[3]):
        (tmp_path / segment_name(first)).unlink()
    found = kept(tmp_path, tag=tag)
    pages = [found.step(1000) for _ in range(3)]
    found.close()
    begins = [msgspec.json.decode(page.messages[0])["sequence"] for page in pages]
    assert [page.missed for page in pages] == [0, firsts[2] - firsts[1], firsts[4] - firsts[3]]
    assert begins == ([1, firsts[2], firsts[4]] if tag else [1, firsts[1], firsts[3]])
    assert [page.next for page in pages] == [firsts[1] - 1, firsts[3] - 1, 60]


def test_a_gap_at_the_end_of_a_period_is_reported(tmp_path: Path) -> None:
    """What a page goes on after may be the last that is left of the period: the rest of it is missing all the same."""
    firsts = list_segments(needles_in(tmp_path))
    until = plain(tmp_path, Query(), 0)[firsts[2]].received
    for first in firsts[1:4]:
        (tmp_path / segment_name(first)).unlink()
    found = kept(tmp_path, firsts[1] - 1, until=until)
    page = found.step(10)
    (text,) = page.messages
    loss = msgspec.json.decode(text)
    assert (loss["tag"], loss["sequence"], loss["record"]["count"]) == ("mpsr.loss", firsts[1], firsts[4] - firsts[1])
    assert (page.is_end, page.is_over) == (True, True)
    found.close()


def test_a_page_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the message that reaches the size, and the next step goes on after it."""
    monkeypatch.setattr(reading, "STEP_S", 60.0)  # on a busy machine, a step would end before its page is full

    async def main() -> None:
        async with world(tmp_path, batch("a", *({"t": "x" * 10_000} for _ in range(20)))) as there:
            reading = reading_of(there)
            page = reading.step(1000)
            assert PAGE_BYTES <= page.size < PAGE_BYTES + 11_000
            assert (len(page.messages), page.next, page.is_end) == (7, 7, False)
            assert len(reading.step(1000, 1).messages) == 1
            assert everything(reading)[0] == 9

    asyncio.run(main())


def large_batch(count: int) -> Batch:
    """Return a batch of *count* messages of 1,000 bytes."""
    return batch("a", *({"t": "x" * 1000} for _ in range(count)))


def test_a_reading_in_a_large_batch_keeps_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch is kept for all readings, for a while; in a smaller one it stays where it is."""
    monkeypatch.setattr(reading, "STEP_S", 60.0)

    async def main() -> None:
        async with world(tmp_path, large_batch(1100), large_batch(300)) as there:
            before = descriptors()
            reading = reading_of(there)
            reading.step(5)
            assert descriptors() == before
            assert len(there.readings._large) == 1
            small = reading_of(there, 1100)
            small.step(5)
            assert descriptors() == before + 1
            small.close()
            assert descriptors() == before
            assert everything(reading) == list(range(6, 1401))
            reading.close()

    asyncio.run(main())


def test_large_batches_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that goes on later finds its place again, also if it connects again in between."""
    monkeypatch.setattr(reading, "LET_GO_S", 0.0)
    monkeypatch.setattr(reading, "STEP_S", 60.0)

    async def main() -> None:
        async with world(tmp_path, large_batch(1100)) as there:
            user, looking = there.caller().user, reading_of(there)
            page = await there.readings.do(user, looking.step, 5)
            assert (len(page.messages), page.next) == (5, 5)
            await until(lambda: not there.readings._large)
            assert everything(looking, 500) == list(range(6, 1101))
            looking.close()
            assert everything(reading_of(there, 700)) == list(range(701, 1101))

    asyncio.run(main())


@pytest.mark.parametrize("is_one", [True, False], ids=["tail", "queries"])
def test_the_work_is_proportional_to_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_one: bool) -> None:
    """
    However many steps read a large batch, each entry is passed over once to find its piece. It is decoded once by a
    tail; by queries a page at a time again if a page ends in its piece.
    """
    monkeypatch.setattr(reading, "STEP_S", 60.0)
    passed, decoded, pages, count = [0], [0], 0, 10_000

    def counting(name: str, counted: list[int], size: Callable[..., int]) -> None:
        whole = getattr(codec, name)

        def counted_too(*given: Any) -> Any:
            found = whole(*given)
            counted[0] += size(found, *given)
            return found

        monkeypatch.setattr(codec, name, counted_too)

    async def main() -> None:
        nonlocal pages
        entry = codec.stamp(1) + msgspec.msgpack.encode({"t": "x" * 100})
        async with world(tmp_path, Batch(b"a", codec.join([entry] * count, count), count)) as there:
            counting("count_well_formed", passed, lambda found, *_: found[0])
            counting("pairs", decoded, lambda _, *given: given[1])
            looking, is_end = reading_of(there), False
            while not is_end:
                page = looking.step(200)
                pages, is_end = pages + 1, page.is_end
                if not is_one:
                    looking.close()
                    looking = reading_of(there, page.next)
            assert page.next == count

    asyncio.run(main())
    assert pages >= 50
    if is_one:
        assert (passed[0], decoded[0]) == (count, count)
    else:
        entries_of_piece = PIECE_BYTES // 100
        assert decoded[0] <= count + pages * entries_of_piece
        assert passed[0] <= count + pages * entries_of_piece


@pytest.mark.parametrize("is_packed", [False, True], ids=["deleted", "packed"])
def test_the_segment_changes_under_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool) -> None:
    """A reading in a large batch that has expired meanwhile, or whose segment was packed, goes on all the same."""
    monkeypatch.setattr(reading, "STEP_S", 60.0)
    monkeypatch.setattr(retention, "SEGMENT_BYTES", 1 << 20)

    async def main() -> None:
        async with world(tmp_path, large_batch(1100), numbered("b", 2)) as there:
            files = DiskFiles(there.journal.path)
            assert list_segments(files) == [1, 1101]
            looking, late = reading_of(there), reading_of(there)
            assert (looking.step(5).next, late.step(5).next) == (5, 5)
            if is_packed:
                name = rewrite(files, 1, 1101)
                assert name is not None
                assert await there.journal.adopt(name)
            else:
                files.remove(segment_name(1))
            assert everything(looking) == list(range(6, 1103))
            looking.close()
            there.readings._large.let_go()
            there.readings._large.let_go()
            found = everything(late)
            assert found[-2:] == [1101, 1102]
            assert found[:-2] == [*range(6, 1101)][: None if is_packed else found.index(1101)]
            late.close()

    asyncio.run(main())


def test_a_reader_of_a_large_batch_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the bytes of the last one, also at the end of the journal."""
    monkeypatch.setattr(reading, "STEP_S", 60.0)  # a step that ends with the batch leaves nothing to the last one

    async def main() -> None:
        async with world(tmp_path, large_batch(1100)) as there:
            before = descriptors()
            reading = reading_of(there, where=[Condition("n=1101")])
            assert reading.step(1000).is_end
            assert (descriptors(), reading.next) == (before, 1100)
            reading.query = reading_of(there).query
            await there.journal.append([numbered("b", 1)])
            assert everything(reading) == [1101]
            reading.close()

    asyncio.run(main())


def test_a_step_that_finds_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time bounds it also in the middle of a batch, and it goes on there."""
    monkeypatch.setattr(reading, "STEP_S", 0.0)

    async def main() -> None:
        large = batch("a", *({"t": "x" * 1000} for _ in range(300)))
        async with world(tmp_path, large) as there:
            looking, looking_too = reading_of(there), reading_of(there, where=[Condition("t=y")])
            looking.query.rights = TagRights(("b",))
            page = looking.step(5)
            assert (page.next, page.is_end) == (300, False)  # all of it is skipped at once
            page = looking_too.step(5)
            assert (page.messages, page.is_end) == ([], False)
            assert 0 < page.next < 300
            monkeypatch.setattr(reading, "STEP_S", 60.0)
            assert (looking_too.step(5).is_end, looking_too.next) == (True, 300)

    asyncio.run(main())


@pytest.mark.parametrize("count", [600, 1200], ids=["large", "larger"])
@pytest.mark.parametrize("filters", [{}, {"where": [Condition("t=y")]}], ids=["all", "none"])
def test_every_step_makes_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any], count: int
) -> None:
    """A step that begins in the middle of a large batch does not spend its time on what earlier steps have read."""
    monkeypatch.setattr(reading, "STEP_S", 0.0)

    async def main() -> None:
        async with world(tmp_path, large_batch(count)) as there:
            looking, before = reading_of(there, **filters), -1
            while not looking.step(1000).is_end:
                assert looking.next > before
                before = looking.next
            assert looking.next == count

    asyncio.run(main())


def test_the_thread_lets_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has worked for a while it sleeps for as long, at most 50 ms."""
    slept: list[float] = []
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = Pace()
    for moment in (0.001, 0.003, 0.004, 1.0):
        now[0] = moment
        pace.rest()
    assert slept == [0.003, 0.05]


def test_the_thread_pauses_no_longer_than_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it knows the time of all threads. It leaves them a moment in any case, and pauses for as long as it worked."""
    slept: list[float] = []
    own, total = [0.0], [1.0]
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = Pace(lambda: own[0], total=lambda: total[0])
    for worked_s, others_s in ((0.004, 0.003), (0.004, 0.0), (0.001, 0.001), (0.001, 0.0), (0.004, 1.0), (1.0, 1.0)):
        own[0] += worked_s
        total[0] += worked_s + others_s
        pace.rest()
    assert [round(pause_s, 6) for pause_s in slept] == [0.003, REST_S_MIN, 0.001, 0.004, REST_S_MAX]


@pytest.mark.parametrize("cancels", [1, 3])
def test_a_step_is_done_to_its_end(tmp_path: Path, cancels: int) -> None:
    """
    Who cancels waits for the step, so that nothing is closed under it, however often it cancels; another of the same
    user waits its turn.
    """

    async def main() -> None:
        async with world(tmp_path) as there:
            began, may_end, done = threading.Event(), threading.Event(), []

            def work() -> None:
                began.set()
                assert may_end.wait(30)
                done.append(1)

            user = there.caller().user
            doing = asyncio.create_task(there.readings.do(user, work))
            await asyncio.to_thread(began.wait, 30)
            for _ in range(cancels):
                doing.cancel()
                await asyncio.sleep(0)
            second = asyncio.create_task(there.readings.do(user, done.append, 2))
            await asyncio.sleep(0)
            assert (doing.done(), user.reading.locked(), done) == (False, True, [])
            assert there.readings._executor._work_queue.empty()
            may_end.set()
            await asyncio.wait((doing, second))
            assert (doing.cancelled(), done) == (True, [1, 2])

    asyncio.run(main())


@pytest.mark.parametrize("is_impatient", [False, True])
def test_a_step_that_fails_when_its_caller_has_left_is_not_logged(tmp_path: Path, is_impatient: bool) -> None:
    """Its fault is nobody's any longer, however often the caller was cancelled: no caller can fill the log."""
    logged: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        async with world(tmp_path) as there:
            began, may_end = threading.Event(), threading.Event()

            def fail() -> None:
                began.set()
                assert may_end.wait(30)
                raise ValueError("wrong")

            doing = asyncio.create_task(there.readings.do(there.caller().user, fail))
            await asyncio.to_thread(began.wait, 30)
            for _ in range(1 + is_impatient):
                doing.cancel()
                await asyncio.sleep(0)
            may_end.set()
            await asyncio.wait((doing,))
            assert doing.cancelled()
            await there.readings.do(there.caller().user, int)  # the one before has ended on the thread
            await asyncio.sleep(0)
        gc.collect()

    asyncio.run(main())
    assert logged == []


def test_a_reading_is_closed_although_the_thread_has_ended(tmp_path: Path) -> None:
    """At the end of the hub nothing is left to close."""

    async def main() -> None:
        async with world(tmp_path) as there:
            there.readings.close()
            there.readings.close_later(reading_of(there))

    asyncio.run(main())
