"""hub.query.backward: a journal, read from its end."""

import itertools
import random
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.reader import Reader
from hub.journal.segment import SEQUENCE_MAX, list_segments, segment_name
from hub.message import LOSS_TAG
from hub.query import backward as backward_module
from hub.query.backward import backward, last, last_sequence_before
from hub.query.query import Query
from tests.hub.journal.world import Life, at, flipped
from tests.hub.query.test_query import batch_of


def a_journal(folder: Path, rng: random.Random) -> None:
    """Create a journal of several segments, some empty, damaged at the end or in the middle, or missing."""
    files = DiskFiles(str(folder))
    life = Life(files, segment_bytes=rng.choice([500, 2000]))
    for number in range(rng.randrange(40)):
        tag = rng.choice([b"app.web", b"app.db", b"other"])
        life.append(batch_of(tag, *({"n": number, "s": rng.choice("abc")} for _ in range(rng.randrange(1, 5)))))
        if rng.random() < 0.2:  # blocks without messages
            life.append(*[at({b"x": number})] * rng.randrange(1, 4))
        if rng.random() < 0.05:
            life.writer.close()
            life = Life(files, segment_bytes=500)
    life.writer.close()
    for first in list_segments(files)[:-1]:
        path, chance = folder / segment_name(first), rng.random()
        if chance < 0.1:
            path.write_bytes(flipped(path.read_bytes(), rng.randrange(8 * path.stat().st_size)))
        elif chance < 0.2:
            path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
        elif chance < 0.25:
            path.unlink()


def test_the_last_are_those_that_reading_everything_would_end_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    For any filters, count and place, on whole and damaged journals, the last messages equal those of a full read, and
    so do all messages, the newest first.
    """
    monkeypatch.setattr(backward_module, "STRETCH_MIN", 3)
    rng = random.Random(1)
    queries = [Query(), Query(tag="app.*"), Query(grep="b"), Query(tag="*b", grep="[ab]"), Query(tag="none")]
    gaps = 0
    for number in range(15):
        folder = tmp_path / str(number)
        folder.mkdir()
        a_journal(folder, rng)
        for query in queries:
            for _ in range(4):
                after, count = rng.choice([0, 0, rng.randrange(100)]), rng.choice([0, 1, 2, 5, 20, 1000])
                reader = Reader(DiskFiles(str(folder)), after=after)
                wanted = [message for message in query.messages(reader.read()) if message.sequence > after]
                reader.close()
                gaps += sum(1 for message in wanted if message.tag == LOSS_TAG.decode())
                expected = wanted[max(len(wanted) - count, 0) :]
                messages = last(str(folder), query, count, after=after)
                assert [(m.sequence, m.record) for m in messages] == [(m.sequence, m.record) for m in expected]
                below = rng.randrange(120)
                wanted = [message for message in wanted if message.sequence < below]
                expected = wanted[max(len(wanted) - count, 0) :]
                messages = last(str(folder), query, count, after=after, below=below)
                assert [(m.sequence, m.record) for m in messages] == [(m.sequence, m.record) for m in expected]
                for is_time in (False, True):  # a caller that does something else in between sees the same
                    stretches = [
                        *backward(
                            str(folder),
                            query,
                            after=after,
                            below=below,
                            is_time=(lambda: True) if is_time else (lambda: False),
                        )
                    ]
                    all_of_them = [message for stretch in reversed(stretches) for message in stretch]
                    assert [m.sequence for m in all_of_them] == [m.sequence for m in wanted]
    assert gaps > 10


def test_what_expires_meanwhile_is_reported_once(tmp_path: Path) -> None:
    """A gap that reaches into what was read before is reported up to there."""
    life = Life(DiskFiles(str(tmp_path)), segment_bytes=500)
    for number in range(40):
        life.append(batch_of(b"app", {"n": number}))
    firsts = list_segments(DiskFiles(str(tmp_path)))
    assert len(firsts) > 6
    stretches = backward(str(tmp_path), Query())
    found = [*next(stretches)]
    for first in firsts[1:4]:
        (tmp_path / segment_name(first)).unlink()
    found += itertools.chain.from_iterable(stretches)
    lost = [(each.sequence, each.record["count"]) for each in found if each.tag == LOSS_TAG.decode()]
    assert sorted(lost) == [(first, following - first) for first, following in itertools.pairwise(firsts[1:5])]
    there = {each.sequence for each in found if each.tag == "app"}
    assert there == {*range(1, firsts[1]), *range(firsts[4], 41)}


def test_the_end_of_a_large_journal_is_found_without_reading_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the segments that contain wanted messages are opened."""
    life = Life(DiskFiles(str(tmp_path)), segment_bytes=1000)
    for number in range(50):
        life.append(batch_of(b"t", {"n": number, "pad": "." * 500}))
    life.writer.close()
    names = set()
    real = DiskFiles.open

    def open_noted(files: DiskFiles, name: str) -> int:
        names.add(name)
        return real(files, name)

    monkeypatch.setattr(DiskFiles, "open", open_noted)
    for below in (SEQUENCE_MAX, 51, 60, SEQUENCE_MAX - 1):  # the end may be known, or lie anywhere behind the last one
        messages = last(str(tmp_path), Query(), 3, below=below)
        assert [message.record["n"] for message in messages] == [47, 48, 49]
        assert len(names) <= 4


def test_the_last_message_before_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found whichever segment or stretch holds it; before the first message it is 0."""
    monkeypatch.setattr(backward_module, "STRETCH_MIN", 2)
    life = Life(DiskFiles(str(tmp_path)), segment_bytes=500)
    for number in range(30):
        life.append(batch_of(b"t", {"n": number}, {"n": -number}))
    life.writer.close()
    reader = Reader(DiskFiles(str(tmp_path)))
    batches = [*reader.read()]
    reader.close()
    assert last_sequence_before(str(tmp_path), batches[0].received) == 0
    for before, batch in itertools.pairwise(batches):
        assert last_sequence_before(str(tmp_path), batch.received) == before.sequence + before.count - 1
    assert last_sequence_before(str(tmp_path), batches[-1].received + 1) == 60
