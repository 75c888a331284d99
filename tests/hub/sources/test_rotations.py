"""hub.sources.rotations: generations that nobody has read, copies, and truncated files."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

import pytest

from hub.sources import filecheck, fileidentity, generations
from hub.sources.followed import file_clock_ns
from hub.sources.searching import Searching
from tests.hub.sources.followrig import LONG, Rig, refuse_to_open, tick


@pytest.mark.parametrize("is_running", [True, False])
def test_copytruncate(rig: Rig, is_running: bool) -> None:
    """The rest of the copy is read, then the file from its start; what may be missing is declared."""
    rig.start()
    rig.write("app.log", "1\n" * 50)
    assert len(rig.all()) == 50
    if not is_running:
        rig.it.close()
    rig.write("app.log", "2\n")
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "3\n" * 60)
    if is_running:
        assert rig.all() == ["2", *["3"] * 60]
    else:
        rig.start()
        assert rig.read() == ["2", *["3"] * 60]
    assert [loss.lost_bytes for loss in rig.losses] == [0]
    rig.start()
    assert rig.all() == []


def test_a_truncation_without_a_copy(rig: Rig) -> None:
    """What may be missing is declared, with the bytes that were seen and not read."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n3\n4\n")
    assert rig.all() == ["2", "3", "4"]
    assert [(loss.count, loss.lost_bytes) for loss in rig.losses] == [(1, 0)]


def test_two_copies_while_no_hub_ran(rig: Rig) -> None:
    """The older copy is continued, the younger one is read from its start, then the file."""
    rig.start()
    rig.write("app.log", "1\n" * 50)
    rig.all()
    rig.it.close()
    for n in (2, 3):
        rig.write("app.log", f"{n}\n" * 40)
        if (rig.folder / "app.log.1").exists():
            rig.rename("app.log.1", "app.log.2")
        shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
        os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "4\n")
    rig.start()
    assert rig.read() == ["2"] * 40 + ["3"] * 40 + ["4"]


def test_a_copy_that_takes_a_while(rig: Rig) -> None:
    """Half of the copy of a file that appeared after the start is no older generation of it, however short it is."""
    rig.start()
    rig.write("app.log", "1\n" * 50)
    assert len(rig.all()) == 50
    for _ in range(3):
        tick()
    for data in ("", "1\n" * 10, "1\n" * 40):
        rig.write("app.log.1", data)
        assert rig.all() == []
    rig.write("app.log", "2\n")
    assert rig.all() == ["2"]
    rig.write("app.log.1", "2\n3\n")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "4\n")
    assert rig.all() == ["3", "4"]


def test_a_copy_that_is_begun_when_a_truncation_is_seen(rig: Rig) -> None:
    """The file is copied for the second time: that copy is empty yet, and will have nothing that is not read anyway."""
    rig.start()
    rig.write("app.log", "1\n" * 50)
    assert len(rig.all()) == 50
    rig.write("app.log", "2\n")
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.2")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "3\n" * 40)
    rig.write("app.log.1", "")
    assert rig.all() == ["2", *["3"] * 40]
    rig.write("app.log.1", "3\n" * 40)
    assert rig.all() == []
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "4\n")
    assert rig.all() == ["4"]


def test_read_further_than_its_copy(rig: Rig) -> None:
    """What was written after the copy was made is read before the truncation: nothing of the copy is read again."""
    rig.start()
    rig.write("app.log", "".join(f"{number}\n" for number in range(1000)))
    tick()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.write("app.log", "1000\n")
    assert rig.all() == [str(number) for number in range(1001)]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "1001\n")
    assert rig.all() == ["1001"]
    assert [loss.lost_bytes for loss in rig.losses] == [0]
    rig.start()
    assert rig.all() == []


def test_an_empty_file_and_its_copies(rig: Rig) -> None:
    """Nothing of it was read: its copies are read from their starts, the oldest first."""
    rig.start()
    rig.write("app.log", "")
    assert rig.all() == []
    rig.it.close()
    for number in (2, 1):
        tick()
        rig.write("app.log", f"{number}\n" * 40)
        shutil.copyfile(rig.folder / "app.log", rig.folder / f"app.log.{number}")
        os.truncate(rig.folder / "app.log", 0)
    rig.start()
    assert rig.all() == ["2"] * 40 + ["1"] * 40


def test_an_older_log_that_is_unpacked(rig: Rig) -> None:
    """It has the name of a generation, and was made after the file that is there now."""
    rig.start()
    for text in ("2\n", "3\n"):
        rig.write("app.log", text)
        assert rig.all() == [text.strip()]
        if text == "2\n":
            rig.rename("app.log", "app.log.1")
            tick()
    for _ in range(3):  # the clock that stamps files may be late
        tick()
    rig.write("app.log.2", "1\n" * 50)
    assert rig.all() == []


def test_an_older_log_that_is_unpacked_while_no_hub_runs(rig: Rig) -> None:
    """It has the time of its last line, which is older than what was known when a hub ran."""
    rig.start()
    for _ in range(2):
        rig.write("app.log", "2\n")
        assert rig.all() == ["2"]
    rig.it.close()
    rig.write("app.log.1", "1\n" * 50)
    os.utime(rig.folder / "app.log.1", (1e9, 1e9))
    rig.write("app.log", "3\n")
    rig.start()
    assert rig.all() == ["3"]


def test_a_generation_of_a_file_that_came_back_while_no_hub_ran(rig: Rig) -> None:
    """Nobody knows how long the file that is at the path now has been there: what is younger than it is read."""
    rig.start()
    for _ in range(2):
        rig.write("app.log", "1\n")
        assert rig.all() == ["1"]
    rig.it.close()
    rig.rename("app.log", "away")
    tick()
    rig.write("app.log", LONG)
    rig.rename("app.log", "app.log.1")
    rig.rename("away", "app.log")
    rig.start()
    assert rig.read() == [LONG.strip()]


def test_a_generation_that_only_events_show(rig: Rig) -> None:
    """A file that is made, filled and renamed between two looks is read before its successor, without a full look."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "2\n")
    for name in ("app.log", "app.log.1"):
        rig.it.note_changed(str(rig.folder), name)
    rig.look(everything=False)
    assert rig.read() == ["1", "2"]


def test_many_generations_of_many_files(rig: Rig) -> None:
    """The older generations of each are found among those of all, and are read first."""
    rig.start()
    for number in range(30):
        rig.write(f"{number}.log.1", f"{number} older\n")
        rig.write(f"{number}.log", f"{number} younger\n")
    texts = rig.all()
    assert len(texts) == 60
    assert all(texts.index(f"{number} older") < texts.index(f"{number} younger") for number in range(30))


def test_more_generations_than_are_searched_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are found in the looks that follow."""
    monkeypatch.setattr(generations, "CANDIDATES_MAX", 2)
    rig.start()
    for number in range(5):
        rig.write(f"app.log.{number}", f"{number}\n")
    texts = rig.all()
    while rig.it.next_look_in is not None:
        rig.now += 10.0
        rig.look(everything=False)
        texts += rig.read()
    assert texts == ["0", "1", "2", "3", "4"]


def test_a_copy_with_less_than_was_read(rig: Rig) -> None:
    """What was copied before the last lines were read was read in the original: it is never read again."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.write("app.log", "2\n")
    rig.all()
    os.truncate(rig.folder / "app.log", 0)
    assert rig.all() == []
    rig.write("app.log", "3\n")
    assert rig.all() == ["3"]
    rig.rename("app.log.1", "app.log.2")
    assert rig.all() == []
    rig.start()
    assert rig.read() == []


def test_a_copy_of_a_file_that_is_gone(rig: Rig) -> None:
    """It goes on where the original was read to, or is left alone if it ends before that."""
    rig.start()
    rig.write("app.log", LONG)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "short")
    rig.write("app.log", LONG)
    rig.all()
    rig.it.close()
    rig.rename("short", "app.log.2")
    rig.rename("app.log", "saved")
    shutil.copyfile(rig.folder / "saved", rig.folder / "app.log.1")
    (rig.folder / "saved").unlink()
    rig.write("app.log.1", "new\n")
    rig.write("app.log", "3\n")
    rig.start()
    assert rig.read() == ["new", "3"]


@pytest.mark.parametrize("is_away", [False, True])
@pytest.mark.parametrize("size", [filecheck.BEGIN_BYTES - 1, filecheck.BEGIN_BYTES])
def test_a_copy_of_a_file_of_which_little_was_read(rig: Rig, size: int, *, is_away: bool) -> None:
    """If it is gone, what begins with these few bytes may be a new file: it is read from its start, not lost."""
    first = "x" * (size - 1)
    rig.start()
    rig.write("app.log", first + "\n")
    rig.all()
    rig.it.close()
    rig.write("app.log", "new\n")
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    if is_away:
        (rig.folder / "away").mkdir()
        rig.rename("app.log", "away/app.log")
    rig.write("app.log", "3\n")
    rig.start()
    again = [first] if is_away and size < filecheck.BEGIN_BYTES else []
    assert rig.read() == [*again, "new", "3"]


def test_a_copy_of_a_file_that_was_truncated_before_it_was_read(rig: Rig) -> None:
    """It was left aside as a copy; when the file turns out to have something else, it is read before that."""
    rig.start()
    rig.write("app.log", LONG)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.look()
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n" * 100)
    assert rig.read() == []
    assert rig.all() == [LONG.strip(), *["2"] * 100]


def test_a_generation_that_cannot_be_read_yet(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is followed before anybody can read it, and read when that is possible."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    closed = refuse_to_open(monkeypatch, "app.log.1")
    rig.rename("app.log", "app.log.2")
    rig.write("app.log", "2\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n")
    assert rig.all() == ["3"]
    rig.all()
    closed.clear()
    assert rig.all() == ["2"]


def test_a_copy_that_could_not_be_read_at_first(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it can be read, it turns out to be a copy of what was read: also after a restart."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    closed = refuse_to_open(monkeypatch, "app.log.1")
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    assert rig.all() == []
    rig.start()
    rig.read()
    closed.clear()
    assert rig.all() == []
    rig.write("app.log", "2\n")
    assert rig.all() == ["2"]


def test_a_copy_that_can_be_read_before_its_original(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that nobody could read before it was truncated, the copy is read as soon as that is possible."""
    closed = refuse_to_open(monkeypatch, "app.log", "app.log.1")
    rig.start()
    rig.write("app.log", LONG)
    tick()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    assert rig.all() == []
    closed.remove("app.log.1")
    assert rig.all() == [LONG.strip()]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n")
    closed.clear()
    assert rig.all() == ["2"]


def test_a_file_that_another_has_the_name_of(rig: Rig) -> None:
    """A generation is not taken for a copy of the file that had its name before."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.rename("app.log", "app.log.1")
    rig.all()
    rig.rename("app.log.1", "app.log.2")
    rig.write("app.log", LONG)
    rig.rename("app.log", "app.log.1")
    (rig.folder / "app.log.2").unlink()
    for file in rig.it.files.values():
        file.close()  # what it was is found by its name only
    rig.write("app.log", "3\n")
    assert rig.all() == [LONG.strip(), "3"]


def test_a_file_that_came_back_to_its_path(rig: Rig) -> None:
    """Generations that were made while it was away are found."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    os.mkdir(rig.folder / "away")
    rig.rename("app.log", "away/app.log")
    rig.look()
    rig.write("app.log", "2\n")
    rig.rename("app.log", "app.log.1")
    rig.rename("away/app.log", "app.log")
    assert rig.all() == ["2"]


def test_a_copy_of_what_nobody_has_read_since_a_truncation(rig: Rig) -> None:
    """It is left aside as a copy; when the file was truncated again before it was read, it is read before that."""
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    os.truncate(rig.folder / "app.log", 0)
    rig.all()
    rig.write("app.log", "2\n" * 50)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    until_ns = file_clock_ns() + 2 * generations.SLACK_NS
    while file_clock_ns() < until_ns:
        pass
    rig.look()
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "3\n" * 60)
    assert rig.read() == []
    assert rig.it.next_look_in is not None
    rig.now += 10.0
    rig.look(everything=False)
    assert rig.read() == [*["2"] * 50, *["3"] * 60]
    assert rig.all() == []


def test_a_file_that_was_copied_and_truncated_between_a_look_and_its_first_read(rig: Rig) -> None:
    """No look has found the copies: they are looked for when the file turns out to be read for the first time."""
    rig.start()
    rig.write("app.log", LONG)
    rig.look()
    for number in (2, 1):
        shutil.copyfile(rig.folder / "app.log", rig.folder / f"app.log.{number}")
        os.truncate(rig.folder / "app.log", 0)
        rig.write("app.log", f"{number}\n" * 50)
    assert rig.read() == []
    rig.now += 10.0
    rig.look(everything=False)
    assert rig.read() == [LONG.strip(), *["2"] * 50, *["1"] * 50]


@pytest.mark.parametrize("is_looked", [False, True])
def test_a_copy_of_a_file_that_is_empty_before_its_first_read(rig: Rig, is_looked: bool) -> None:
    """The look that found both has left it aside; it does not wait until the file is written to again."""
    rig.start()
    rig.write("app.log", LONG)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.look()
    os.truncate(rig.folder / "app.log", 0)
    if is_looked:
        rig.look()
    assert rig.read() == []
    rig.now += 10.0
    rig.look(everything=False)
    assert rig.read() == [LONG.strip()]


@pytest.mark.parametrize("is_truncated", [True, False])
def test_a_copy_of_a_file_that_cannot_be_read(rig: Rig, monkeypatch: pytest.MonkeyPatch, is_truncated: bool) -> None:
    """Of a file of which nothing was read, it waits only while the file may have all of it."""
    rig.start()
    rig.write("app.log", f"1\n{LONG}")
    tick()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.look()
    closed = refuse_to_open(monkeypatch, "app.log")
    if is_truncated:
        os.truncate(rig.folder / "app.log", 0)
        rig.write("app.log", "2\n")
    expected = ["1", LONG.strip()]
    assert [*rig.read(), *rig.all()] == (expected if is_truncated else [])
    closed.clear()
    assert [*rig.all(), *rig.all()] == (["2"] if is_truncated else expected)


def test_a_file_that_is_truncated_while_a_generation_is_compared_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generation is no copy of what is empty by then: it does not wait until the file is written to and read."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    rig.rename("app.log", "app.log.2")
    rig.write("app.log", f"2 {LONG}")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", f"3 {LONG}")
    number = os.stat(rig.folder / "app.log").st_ino

    def compare(one: int, other: int, *size: int) -> bool:
        if os.fstat(other).st_ino == number:
            os.truncate(rig.folder / "app.log", 0)
        return filecheck.is_prefix(one, other, *size)

    monkeypatch.setattr(generations, "is_prefix", compare)
    rig.look()
    assert rig.read() == [f"2 {LONG}".strip()]


def test_a_copy_of_the_file_that_has_replaced_a_truncated_one(rig: Rig) -> None:
    """It is no generation of its own, although no look has found its original yet."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.3")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n" * 10)
    rig.rename("app.log", "app.log.2")
    rig.write("app.log", "3\n" * 50)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.it.note_modified(str(rig.folder), "app.log")
    assert rig.read() == []  # the open file is found to be truncated, and to have another name
    assert [*rig.all(), *rig.all()] == [*["2"] * 10, *["3"] * 50]


def test_a_truncated_file_that_was_renamed(rig: Rig) -> None:
    """It is younger than its copies, although it was made before them."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    rig.it.close()
    rig.write("app.log", "1\n")
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.2")
    os.truncate(rig.folder / "app.log", 0)
    tick()
    rig.write("app.log", "2\n" * 50)
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n")
    rig.start()
    assert rig.read() == ["1", *["2"] * 50, "3"]


def test_the_name_that_rotation_gives_counts_more_than_another(rig: Rig) -> None:
    """A second name does not hide which generation is the older one."""
    rig.start()
    rig.write("app.log", "0\n")
    rig.all()
    for number in (2, 1):
        rig.rename("app.log", f"app.log.{number}")
        os.link(rig.folder / f"app.log.{number}", rig.folder / f"aaa{number}")
        os.link(rig.folder / f"app.log.{number}", rig.folder / f"zzz{number}")
        rig.write("app.log", f"{number}\n")
    assert rig.all() == ["2", "1"]
    rig.start()
    rig.start()
    assert {file.entry for file in rig.it.files.values()} == {"app.log", "app.log.1", "app.log.2"}


def test_copies_that_were_made_at_the_same_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are found: rotations may be closer to each other than the ticks of the clock."""
    born_ns = time.time_ns() + 1_000_000_000_000
    monkeypatch.setattr(fileidentity, "_born_ns", lambda *_: born_ns)
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    for name, text in (("app.log.2", LONG + "2\n"), ("app.log.1", "3\n" * 50)):
        (rig.folder / name).write_text(text)
        os.utime(rig.folder / name, ns=(born_ns, born_ns))
    os.truncate(rig.folder / "app.log", 0)
    assert sorted(rig.all()) == ["2", *["3"] * 50]


def truncated_twice(rig: Rig, *numbers: int) -> None:
    """Start again after two copies with these *numbers* were made of a log that was read, and truncated after each."""
    rig.start()
    rig.write("app.log", LONG)
    for _ in range(2):
        rig.all()
    rig.it.close()
    tick()
    for number, text in zip(numbers, ("2\n", "3\n" * 50), strict=True):
        rig.write("app.log", text)
        shutil.copyfile(rig.folder / "app.log", rig.folder / f"app.log.{number}")
        os.truncate(rig.folder / "app.log", 0)
        tick()
    until_ns = file_clock_ns() + 2 * generations.SLACK_NS
    while file_clock_ns() < until_ns:
        pass
    rig.start()


def test_a_look_before_a_truncation_is_seen(rig: Rig) -> None:
    """A look finds nothing while nobody knows what was in a truncated file: that does not make its copies old."""
    truncated_twice(rig, 2, 1)
    rig.look()
    assert rig.read() == ["2", *["3"] * 50]
    assert rig.it.next_look_in is not None


def test_a_search_that_counts_for_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The truncated file has another name by then, so it seems to be whole: that does not make its copies old."""
    truncated_twice(rig, 3, 2)
    known = Searching.known

    def renamed(*args: Any, **kwargs: Any) -> generations.Known:
        monkeypatch.undo()
        rig.rename("app.log", "app.log.1")
        return known(*args, **kwargs)

    rig.write("app.log.4", LONG)  # something to search for
    monkeypatch.setattr(Searching, "known", renamed)
    rig.look()
    assert not (rig.folder / "app.log").exists()
    assert rig.read() == ["2", *["3"] * 50]


def test_a_file_that_is_truncated_while_its_generations_are_searched_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The younger of its copies is not taken before the older one, which is found when the file is read."""
    old, log, search = rig.folder / "old", rig.folder / "app.log", generations.find

    def rotate() -> None:
        for n in (2, 1):
            if (old / f"app.log.{n}").exists():
                rig.rename(f"old/app.log.{n}", f"old/app.log.{n + 1}")
        shutil.copyfile(log, old / "app.log.1")
        os.truncate(log, 0)

    def find(*args: Any, **kwargs: Any) -> generations.Found:
        monkeypatch.undo()
        rotate()
        rig.write("app.log", "2\n" * 40)
        rotate()
        rig.write("app.log", "3\n")
        return search(*args, **kwargs)

    old.mkdir()
    rig.globs.append(f"{old}/*")
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    rotate()
    rig.write("app.log", "1\n" * 40)
    rig.all()
    rig.it.close()
    rig.write("app.log", "last\n")
    monkeypatch.setattr(generations, "find", find)
    rig.start()
    assert rig.read() + rig.all() == ["last", *["2"] * 40, "3"]


def test_looks_before_the_truncation_of_a_renamed_file_is_seen(rig: Rig) -> None:
    """A look that has nothing to search for does not make the copies old that an earlier one could not judge."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    rig.it.close()
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n" * 50)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.2")
    os.truncate(rig.folder / "app.log", 0)
    tick()
    rig.write("app.log", "3\n" * 50)
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "4\n")
    until_ns = file_clock_ns() + 2 * generations.SLACK_NS
    while file_clock_ns() < until_ns:
        pass
    rig.start()
    for _ in range(2):
        rig.look()
    assert rig.read() == [*["2"] * 50, *["3"] * 50, "4"]


def copytruncate(rig: Rig, copy: str) -> None:
    """What logrotate does with a log that its program keeps open."""
    shutil.copyfile(rig.folder / "app.log", rig.folder / copy)
    os.truncate(rig.folder / "app.log", 0)


def truncated_unread(rig: Rig, text: str) -> None:
    """Let the hub see that app.log was truncated, and has *text* now, of which it reads nothing."""
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    copytruncate(rig, "app.log.2")
    rig.write("app.log", text)
    rig.it.note_modified(str(rig.folder), "app.log")
    (owner,) = [owner for owner in rig.it.owners.values() if owner.has_work]
    rig.step(owner)
    assert rig.losses.pop().lost_bytes == 0


@pytest.mark.parametrize("is_looked", [False, True])
@pytest.mark.parametrize("after", ["", "4\n", "3\n" * 90])
@pytest.mark.parametrize("text", ["2\n", "2\n" * 50, "half"])
def test_a_file_that_is_truncated_again_before_it_was_read(rig: Rig, text: str, after: str, is_looked: bool) -> None:
    """Its copy has what was not read: nothing of that is a loss."""
    truncated_unread(rig, text)
    rig.write("app.log", "3\n" * 20)
    expected = [*(text + "3\n" * 20).split()]
    copytruncate(rig, "app.log.1")
    rig.write("app.log", after)
    if is_looked:
        rig.look()
    texts = rig.read()
    assert [*texts, *rig.all()] == [*expected, *after.split()]
    assert [(loss.lost_bytes, "copy" in loss.reason) for loss in rig.losses] == [(0, True)]
    rig.start()
    assert rig.all() == []


@pytest.mark.parametrize("after", ["", "4\n", "3\n" * 90])
def test_what_a_truncation_destroys_before_it_was_read(rig: Rig, after: str) -> None:
    """There is no copy of what was seen: its bytes are lost, also if the file has become longer since."""
    truncated_unread(rig, "2\n" * 20)
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", after)
    texts = rig.read()
    assert [*texts, *rig.all()] == after.split()
    assert [(loss.lost_bytes, "copy" in loss.reason) for loss in rig.losses] == [(40, False)]


def test_half_a_line_that_is_copied_and_truncated(rig: Rig) -> None:
    """Nothing was read of the file yet: what there was is in the copy."""
    rig.start()
    rig.write("app.log", "ha")
    assert rig.all() == []
    rig.write("app.log", "lf\n")
    copytruncate(rig, "app.log.1")
    rig.write("app.log", "2\n")
    texts = rig.all()
    assert [*texts, *rig.all()] == ["half", "2"]
    assert [loss.lost_bytes for loss in rig.losses] == [0]


def test_a_truncated_file_that_is_renamed_while_its_copies_are_searched_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has its name, or had it since, is younger."""
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n")
    listed, rotations = generations.listed, iter([2, 1])

    def rotated(dir_fd: int) -> dict[str, int]:
        for number in rotations:
            tick()
            rig.rename("app.log", f"app.log.{number}")
            rig.write("app.log", f"{5 - number}\n")
        return listed(dir_fd)

    monkeypatch.setattr(generations, "listed", rotated)
    texts = rig.all()
    assert next(rotations, None) is None
    assert [*texts, *rig.all()] == ["2", "3", "4"]
