"""hub.sources.following: all files of a source, without an event loop: looks, steps, and what they give."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.message import FORGET, Batch, Loss, Position
from hub.sources import following, generations
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.fileparse import FileParser
from hub.sources.followed import JOIN_S, REST_S, file_clock_ns
from hub.sources.following import IDLE_S, REFRESH_S, Following, Item, Owner
from hub.sources.kinds import EXCLUDE
from tests.hub.sources.test_fileidentity import reuse_inode
from tests.users import ALICE, NEEDS_ROOT


class Rig:
    """The files in a folder, and what a journal would have of them: texts, losses and positions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.globs = [f"{folder}/*.log"]
        self.exclude: tuple[str, ...] = EXCLUDE
        self.options: dict[str, Any] = {"from_start": True}
        self.parser = FileParser()
        self.positions: dict[bytes, Position] = {}
        self.texts: list[str] = []
        self.losses: list[Loss] = []
        self.claims: dict[bytes, Following] = {}
        self.following: Following | None = None

    def write(self, name: str, text: str) -> None:
        with open(self.folder / name, "a") as file:
            file.write(text)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.folder / old, self.folder / new)

    def start(self) -> None:
        """Begin with what is stored."""
        if self.following is not None:
            self.following.close()
        self.following = Following(
            [Glob(glob) for glob in self.globs],
            Exclusion(self.exclude),
            self.parser,
            tag_of=os.fsencode,
            positions=list(self.positions.values()),
            claims=self.claims,
            clock=lambda: self.now,
            **self.options,
        )
        self.look()

    @property
    def it(self) -> Following:
        assert self.following is not None
        return self.following

    def look(self, *, everything: bool = True) -> None:
        for _ in self.it.look(everything=everything):
            pass
        self.store([*self.it.losses, *batches(self.it.control)])
        self.it.losses, self.it.control = [], []

    def read(self) -> list[str]:
        """Do all steps; return the texts that they gave."""
        before = len(self.texts)
        while owners := [owner for owner in self.it.owners.values() if owner.has_work]:
            for owner in owners:
                self.step(owner)
        return self.texts[before:]

    def step(self, owner: Owner) -> None:
        step = self.it.step(owner, 1 << 20)
        if step.room_bytes:
            self.store(step.items)
            step = self.it.step(owner, step.room_bytes)
        self.store([*step.items, *step.barrier])
        self.it.released(step.released)

    def store(self, items: list[Item]) -> None:
        """Commit."""
        for item in items:
            for position in item.positions:
                if position.number == FORGET:
                    self.positions.pop(position.name, None)
                else:
                    self.positions[position.name] = position
            if isinstance(item, Loss):
                self.losses.append(item)
            else:
                self.texts += [message.record["message"] for message in item.messages()]

    def all(self) -> list[str]:
        """Look at everything and read it."""
        self.look()
        return self.read()

    def wait(self, seconds: float) -> list[str]:
        """Let time pass, look, and read what is due."""
        self.now += seconds
        self.it.tick()
        return self.all()


def batches(positions: list[Position]) -> list[Item]:
    return [Batch(b"", b"\xdd\0\0\0\0", 0, positions=tuple(positions))]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    found = Rig(tmp_path)
    yield found
    if found.following is not None:
        found.following.close()


def test_first_sight(rig: Rig) -> None:
    """What is there when a glob is first looked for is read from its end, what appears later from its start."""
    rig.options = {}
    rig.write("old.log", "1\nhalf")
    rig.write("old.log.1", "0\n")
    rig.start()
    assert rig.read() == []
    rig.write("old.log", " line\n2\n")
    rig.write("new.log", "3\n")
    assert sorted(rig.all()) == ["2", "3", "half line"]
    rig.write("later.log", "4\n")
    rig.start()
    assert rig.read() == ["4"]
    rig.globs.append(f"{rig.folder}/*.txt")
    rig.write("other.txt", "5\n")
    rig.start()
    assert rig.read() == []
    rig.write("other.txt", "6\n")
    assert rig.all() == ["6"]


@pytest.mark.parametrize("older", ["app.log.1", "z.log.1", "gone"])
def test_another_glob_after_a_rotation(rig: Rig, older: str) -> None:
    """It is looked for first, and yet the file is new: its older generation was followed under the same name."""
    rig.options = {"from_start": False}
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.it.close()
    rig.rename("app.log", older)
    if older == "gone":
        (rig.folder / older).unlink()
    rig.write("app.log", "2\n")
    rig.write("apple.log", "old\n")
    rig.globs = [f"{rig.folder}/app*.log"]
    rig.start()
    assert rig.all() == ["2"]


def test_older_generations_at_first_sight(rig: Rig) -> None:
    """They are passed over, too; what is written to one later is read."""
    rig.options = {}
    rig.write("app.log.1", "0\n")
    rig.write("app.log", "1\n")
    rig.start()
    rig.rename("app.log.1", "app.log.2")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n")
    rig.write("app.log.1", "2\n")
    assert rig.all() == ["2", "3"]


def test_every_restart_goes_on(rig: Rig) -> None:
    """Whatever was read is not read again."""
    rig.start()
    for n in range(5):
        rig.write("app.log", f"{n}\n")
        assert rig.all() == [str(n)]
        rig.start()
        assert rig.read() == []
    assert rig.losses == []


def test_rename(rig: Rig) -> None:
    """A renamed file is read to its end before its successor, which is read from its start."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.write("app.log", "2\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n")
    assert rig.all() == ["2", "3"]
    assert rig.losses == []


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


def test_much_that_was_written_before_a_rename(rig: Rig) -> None:
    """It comes before the lines of the new file, also if that is seen while the old one is read."""
    rig.start()
    rig.write("app.log", "first\n")
    assert rig.all() == ["first"]
    older = [f"{number:>1000}" for number in range(2500)]
    rig.write("app.log", "\n".join(older) + "\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "new\n")
    assert rig.all() == [*older, "new"]
    rig.write("app.log.1", "later\n")
    rig.write("app.log", "newer\n")
    assert sorted(rig.all()) == ["later", "newer"]


def test_a_message_of_several_lines_before_a_rename(rig: Rig) -> None:
    """Lines that wait for others come before those of the new file."""
    rig.parser = FileParser(multiline=r"\d")
    rig.start()
    rig.write("app.log", "1\n more\n")
    assert rig.all() == []
    assert rig.wait(JOIN_S) == ["1\n more"]
    rig.write("app.log", "2\n more\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n4\n")
    assert rig.all() == []
    rig.write("app.log.1", " and more\n")
    assert rig.all() == []
    assert rig.wait(JOIN_S) == ["2\n more\n and more", "3"]


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
    tick()
    rig.write("app.log.2", "1\n" * 50)
    assert rig.all() == []


def tick() -> None:
    """Return when the clock that stamps files has moved on."""
    before = file_clock_ns()
    while file_clock_ns() == before:
        pass


def test_a_copy_is_another_file(rig: Rig) -> None:
    """A copy in the glob is read from its start, although it begins alike."""
    rig.start()
    rig.write("app.log", "1\n2\n")
    rig.all()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "copy.log")
    assert rig.all() == ["1", "2"]
    rig.write("app.log", "3\n")
    assert rig.all() == ["3"]


def test_a_reused_inode(rig: Rig) -> None:
    """A new file with the inode of a deleted one is read from its start."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.wait(IDLE_S)
    rig.it.tick()
    reuse_inode(rig.folder / "app.log")
    (rig.folder / "app.log").write_text("2\n")
    assert rig.all() == ["2"]


def test_hard_links_and_links(rig: Rig) -> None:
    """A file with several names in the glob is read once."""
    rig.start()
    rig.write("app.log", "1\n")
    os.link(rig.folder / "app.log", rig.folder / "same.log")
    os.symlink("app.log", rig.folder / "link.log")
    assert rig.all() == ["1"]
    rig.write("same.log", "2\n")
    assert rig.all() == ["2"]
    (rig.folder / "app.log").unlink()
    rig.write("same.log", "3\n")
    assert rig.all() == ["3"]


def test_a_link_to_rotated_files(rig: Rig, tmp_path: Path) -> None:
    """A link from elsewhere leads to the generations of its target, as in Kubernetes."""
    pods = tmp_path / "pods"
    pods.mkdir()
    (pods / "0.log").write_text("1\n")
    os.symlink(pods / "0.log", rig.folder / "app.log")
    rig.start()
    assert rig.read() == ["1"]
    with open(pods / "0.log", "a") as file:
        file.write("2\n")
    os.rename(pods / "0.log", pods / "0.log.20261127-101010")
    (pods / "0.log").write_text("3\n")
    assert rig.all() == ["2", "3"]
    rig.start()
    assert rig.read() == []


def test_deleted_and_moved_files(rig: Rig, tmp_path: Path) -> None:
    """A deleted file that is open is read to its end, and its row is forgotten; one that was moved goes on."""
    away = tmp_path / "away"
    away.mkdir()
    rig.start()
    for name in ("a.log", "b.log"):
        rig.write(name, f"{name}\n")
    assert sorted(rig.all()) == ["a.log", "b.log"]
    rows = len(rig.positions)
    for name in ("a.log", "b.log"):
        rig.write(name, f"more of {name}\n")
    (rig.folder / "a.log").unlink()
    os.rename(rig.folder / "b.log", away / "b.log")
    assert sorted(rig.all()) == ["more of a.log", "more of b.log"]
    for _ in range(3):
        assert rig.wait(IDLE_S) == []
    assert len(rig.positions) == rows - 1
    os.rename(away / "b.log", rig.folder / "b.log")
    rig.write("b.log", "back\n")
    assert rig.all() == ["back"]
    assert rig.losses == []


def test_gone_after_a_restart(rig: Rig) -> None:
    """A file that is not found again may have had more: that is declared once."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.it.close()
    (rig.folder / "app.log").unlink()
    rig.start()
    assert [loss.tag for loss in rig.losses] == [os.fsencode(rig.folder / "app.log")]
    rig.start()
    assert len(rig.losses) == 1


def test_half_a_line_of_a_renamed_file(rig: Rig) -> None:
    """It is taken when nothing has come for a while."""
    rig.start()
    rig.write("app.log", "1\nhalf")
    assert rig.all() == ["1"]
    rig.rename("app.log", "app.log.1")
    assert rig.all() == []
    assert rig.wait(REST_S + 1) == ["half"]


def test_permissions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is tried again with the next look; it does not hold up its successor."""
    rig.start()
    rig.write("app.log", "1\n")
    opening, refused = os.open, [True]

    def fail(path: str, *args: int, **options: Any) -> int:
        if refused[0] and str(path).endswith("app.log"):
            raise PermissionError(13, "Permission denied", path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    assert rig.all() == []
    refused[0] = False
    assert rig.all() == ["1"]


def test_idle_files_are_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file at its end is closed after a while, and the one used longest ago when too many are open."""
    rig.start()
    for n in range(5):
        rig.write(f"{n}.log", "x\n")
    rig.all()
    assert sum(file.fd != -1 for file in rig.it.files.values()) == 5
    rig.wait(IDLE_S)
    assert sum(file.fd != -1 for file in rig.it.files.values()) == 0
    monkeypatch.setattr(following, "OPEN_MAX", 2)
    rig.start()
    for n in range(5):
        rig.write(f"{n}.log", "y\n")
    assert rig.all() == ["y"] * 5
    assert sum(file.fd != -1 for file in rig.it.files.values()) == 2


def test_rows_are_refreshed(rig: Rig) -> None:
    """The rows of all files that exist are written again every day."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    names = set(rig.positions)
    for _ in range(2):
        rig.positions.clear()
        rig.wait(REFRESH_S)
        assert set(rig.positions) == names


def test_two_sources(rig: Rig) -> None:
    """A file that another source has is left to it."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    other = Rig(rig.folder)
    other.claims = rig.claims
    other.start()
    assert other.read() == []
    rig.it.is_ended = True
    rig.write("app.log", "2\n")
    other.positions = rig.positions
    other.start()
    assert other.read() == ["2"]
    other.it.close()


def test_our_own_output(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that this process writes its log to is left alone."""
    rig.write("app.log", "1\n")
    rig.write("hub.log", "2\n")
    described = (rig.folder / "hub.log").stat()
    assert len(following.own_output()) in (1, 2)
    monkeypatch.setattr(following, "own_output", lambda: {(described.st_dev, described.st_ino)})
    rig.start()
    assert rig.read() == ["1"]


def test_too_many_files(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further files are left alone."""
    monkeypatch.setattr(following, "FILES_MAX", 3)
    for n in range(5):
        rig.write(f"{n}.log", "x\n")
    rig.start()
    assert rig.read() == ["x"] * 3


def test_events(rig: Rig) -> None:
    """A write makes a file ready, a name makes its folder due; nothing else is looked at."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.it.note_changed(str(rig.folder), "app.log")
    assert rig.it.next_look_in == 0.0
    rig.look(everything=False)
    assert rig.read() == ["1"]
    assert rig.it.next_look_in is None
    rig.write("app.log", "2\n")
    rig.look(everything=False)
    assert rig.read() == []
    rig.it.note_modified(str(rig.folder), "app.log")
    assert rig.read() == ["2"]
    rig.it.note_modified("/nowhere", "x")
    rig.it.note_changed("/nowhere", "x")


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


def test_a_file_that_is_excluded_later(rig: Rig) -> None:
    """It is not read any longer, although it has a position; without the exclusion, it goes on where it was."""
    rig.write("app.log", "1\n")
    rig.write("web.log", "2\n")
    rig.start()
    assert sorted(rig.read()) == ["1", "2"]
    rig.exclude = (*EXCLUDE, "web*")
    rig.start()
    rig.write("app.log", "3\n")
    rig.write("web.log", "4\n")
    assert rig.all() == ["3"]
    rig.exclude = EXCLUDE
    rig.start()
    assert rig.read() == ["4"]


def test_polling(rig: Rig) -> None:
    """Sizes are looked at where nothing is reported."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.write("app.log", "2\n")
    for _ in rig.it.look_at_sizes({"/elsewhere"}):
        pass
    assert rig.read() == []
    for _ in rig.it.look_at_sizes({str(rig.folder)}):
        pass
    assert rig.read() == ["2"]


def test_another_device_number(rig: Rig) -> None:
    """Rows of the same files on a device that had another number are used."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    for name, position in list(rig.positions.items()):
        if b":@" not in name:
            del rig.positions[name]
            other = name.replace(b"files:", b"files:9999", 1)
            rig.positions[other] = Position(other, position.number, position.detail)
    rig.write("app.log", "2\n")
    rig.start()
    assert rig.read() == ["2"]
    assert not [name for name in rig.positions if b"files:9999" in name]


def test_the_lag(rig: Rig) -> None:
    """It is what is known and not read."""
    rig.start()
    assert rig.it.lag == (0, None)
    rig.write("app.log", "1\n")
    rig.look()
    unread_bytes, since = rig.it.lag
    assert unread_bytes == 2
    assert since is not None
    rig.read()
    assert rig.it.lag == (0, None)


@NEEDS_ROOT
def test_a_folder_that_becomes_a_link(rig: Rig) -> None:
    """What a user's link leads to is not read, also between two looks at everything."""
    logs, secret = rig.folder / "logs", rig.folder / "secret"
    for folder in (logs, secret):
        folder.mkdir()
        (folder / "app.log").write_text(f"{folder.name}\n")
    rig.globs = [f"{rig.folder}/log*/*.log"]
    rig.start()
    assert rig.read() == ["logs"]
    os.rename(logs, rig.folder / "old")
    os.symlink("secret", logs)
    os.lchown(logs, ALICE, ALICE)
    rig.it.note_changed(str(logs), None)
    rig.look(everything=False)
    assert rig.read() == []
    assert rig.all() == []
    os.lchown(logs, 0, 0)
    assert rig.all() == ["secret"]


def test_files_that_come_and_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's rows of files that are gone are limited; the newest are kept."""
    monkeypatch.setattr(following, "GONE_MAX", 3)
    rig.start()
    for number in range(9):
        rig.write(f"{number}.log", f"{number}\n")
    rig.all()
    for file in list(rig.it.files.values()):
        file.close()
    kept = [file.name for file in rig.it.files.values() if file.entry in ("6.log", "7.log", "8.log")]
    for number in range(9):
        (rig.folder / f"{number}.log").unlink()
        rig.all()
        rig.wait(3.0)
    assert rig.it.files == {}
    assert {name for name in rig.positions if not name.startswith(b"files:@")} == set(kept)


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


@pytest.mark.parametrize(("limit", "files"), [(64, 8), (1024, 128), (20_000, 1024), (4, 1), (-1, 1024)])
def test_few_descriptors(monkeypatch: pytest.MonkeyPatch, limit: int, files: int) -> None:
    """The files of a source leave descriptors to the rest of the hub."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert following.open_max() == files


LONG = "a line that is long enough to tell a file from others by its beginning\n"


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


def test_a_copy_of_a_file_that_was_truncated_before_it_was_read(rig: Rig) -> None:
    """It was left aside as a copy; when the file turns out to have something else, it is read."""
    rig.start()
    rig.write("app.log", LONG)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    rig.look()
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n" * 100)
    assert set(rig.read()) == {"2"}
    assert rig.all() == [LONG.strip()]


def test_a_generation_that_was_renamed_during_the_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was in neither place: it is found by the next look, although a younger file was seen at the path."""
    rig.start()
    rig.write("app.log", "1\n")
    listing, names = os.scandir, iter([True])

    class Stale:
        """A listing from before a rotation."""

        def __init__(self, folder: Any) -> None:
            with listing(folder) as entries:
                self.found = list(entries)
            rig.rename("app.log", "app.log.1")
            rig.write("app.log", "2\n")

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.found)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", lambda folder: Stale(folder) if next(names, False) else listing(folder))
    rig.look(everything=False)
    rig.it.note_changed(str(rig.folder), None)
    rig.look(everything=False)
    assert rig.read() == ["2"]
    monkeypatch.undo()
    assert rig.all() == ["1"]


def test_a_generation_that_cannot_be_read_yet(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is followed before anybody can read it, and read when that is possible."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    opening, closed = os.open, {"app.log.1"}

    def fail(path: str, *args: int, **options: Any) -> int:
        if os.path.basename(path) in closed:
            raise PermissionError(13, "Permission denied", path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
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
    opening, closed = os.open, {"app.log.1"}

    def fail(path: str, *args: int, **options: Any) -> int:
        if os.path.basename(path) in closed:
            raise PermissionError(13, "Permission denied", path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    assert rig.all() == []
    rig.start()
    rig.read()
    closed.clear()
    assert rig.all() == []
    rig.write("app.log", "2\n")
    assert rig.all() == ["2"]


def test_younger_ones_do_not_wait_for_one_that_cannot_be_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not for those in between, which have nothing more."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    opening, closed = os.open, {"app.log.1", "app.log.2", "app.log.3"}

    def fail(path: str, *args: int, **options: Any) -> int:
        if os.path.basename(path) in closed:
            raise PermissionError(13, "Permission denied", path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    rig.start()
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "2\n")
    assert rig.all() == ["2"]
    rig.rename("app.log", "app.log.0")
    rig.write("app.log", "3\n")
    assert rig.all() == ["3"]


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


def test_made_before_the_first_look(rig: Rig) -> None:
    """What was made after the source began is new, also if it is renamed before its position is stored."""
    rig.options = {"began_ns": time.time_ns() - 1_000_000_000}
    rig.write("app.log", "1\n")
    rig.start()
    for name in [name for name in rig.positions if b"@" not in name]:
        del rig.positions[name]  # the machine lost power before it was synced
    rig.rename("app.log", "app.log.1")
    rig.start()
    assert rig.read() == ["1"]


def test_sizes_of_a_file_that_was_replaced(rig: Rig) -> None:
    """The size of another file under the name is not taken for its own: the folder is looked through."""
    rig.start()
    rig.write("app.log", "1\n" * 50)
    rig.all()
    file = next(iter(rig.it.files.values()))
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "2\n")
    for _ in rig.it.look_at_sizes({str(rig.folder)}):
        pass
    assert file.size == 100
    rig.look(everything=False)
    assert rig.read() == ["2"]
    assert rig.losses == []
