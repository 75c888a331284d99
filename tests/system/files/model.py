"""
What programs do to their logs, and which lines a collector of these files must have stored at the end.

`World` has logs, each with a writer that keeps its file open, as programs do. Every action happens to real files, and
the model knows which lines each file holds.

A line is *due* as often as `least` says: once when it was finished. What a truncation, or the end of its file's last
name, may have destroyed before anybody read it is due no longer, and may still come (`most`). A line whose file was
copied into the glob is due twice. Always true: each line that is not empty is unlike all others, in its first bytes and
in its last ones, so that also its parts can be recognised.

Not here: the collector, what it stored (tests.system.files.history).
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.system.files.virtualloop import Clock

STEP_S = 0.05
"""How long one step of a program takes: more than a tick of the clock that stamps files."""
LINE_BYTES_MAX = 400
"""The limit that the collector has in these tests."""
PART_BYTES_MIN = 12
"""A line may be written in two parts. Each has at least this many bytes, so that no two parts are the same."""
GENERATIONS = 3
"""How many a rotation keeps."""
_LETTERS = bytes(b"abcdefghijklmno "[number % 16] for number in range(256))


class Inode(NamedTuple):
    """What a file is, whatever its name: the number, how often that was used, and when the file was made."""

    number: int
    generation: int
    born_ns: int


class Line:
    """One line, without its newline."""

    def __init__(self, text: bytes, number: int, least: int = 1, most: int = 1) -> None:
        self.text = text
        self.number = number
        self.least = least
        self.most = most
        self.cut = 0
        """Where it may be torn: it was unfinished at the end of a file that had left its name."""

        self.is_copied = False
        """Whether it is in two files."""

    def __repr__(self) -> str:
        return f"<{self.text[:24]!r} due {self.least}..{self.most}{f' cut {self.cut}' if self.cut else ''}>"

    @property
    def is_long(self) -> bool:
        return len(self.text) > LINE_BYTES_MAX

    def may_be_gone(self) -> None:
        """It may have been destroyed unread."""
        self.least = 0


class Contents:
    """What one file holds: whole lines, and perhaps the beginning of one more."""

    def __init__(self, *, is_known: bool) -> None:
        self.lines: list[Line] = []
        self.half: Line | None = None
        self.half_at = 0
        """How many bytes of the unfinished line were written."""
        self.is_known = is_known
        """Whether the collector can know that it is one of its files, and not one that was there before it."""
        self.is_torn = False
        """Whether it ends with the beginning of a line that was given up."""
        self.was_torn = False
        """Whether it has such a beginning anywhere, which may be taken alone from each copy, too."""
        self.was_linked = False
        """Whether it has had other names: it may be known by one of these, and its copies not."""
        self.original: Contents | None = None
        """What it is a copy of: while nobody can read that, nobody knows what of it is only here."""
        self.is_closed = False  # nobody may read it
        self.was_listed = False
        """Whether the collector has listed a folder while it was there."""

    def destroy(self) -> None:
        """Nobody can read it any more."""
        for line in (*self.lines, *((self.half,) if self.half else ())):
            line.may_be_gone()


class Log:
    """A program and its log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fd = -1
        self.contents: Contents | None = None
        self.rest = b""
        """What is still to be written of the unfinished line."""
        self.half_in: Contents | None = None
        """Where its beginning is."""
        self.was_known = False
        self.lines: list[Line] = []


class World:
    """The folder *path* with its logs, the folder *away*, and everything that was written."""

    def __init__(self, path: Path, away: Path, rng: random.Random, names: Sequence[str], clock: Clock) -> None:
        self.clock = clock
        self.inodes: dict[int, Inode] = {}
        """What the collector sees instead of the numbers of inodes, which nobody can choose."""
        self.free_inodes: list[int] = []
        self.numbers_of_inodes = itertools.count(1 << 40)
        self.generations_of_inodes = itertools.count(1)
        self.path = path
        self.away = away
        self.rng = rng
        self.logs = [Log(name) for name in names]
        self.names: dict[Path, Contents] = {}
        self.lines: list[Line] = []
        self.histories: list[list[Line]] = []
        """The lines of each file, in their order."""
        self.events: list[list[Line]] = []
        """Lines that belong together."""
        self.numbers = itertools.count(1)
        self.copies = itertools.count(1)
        self.unfinished: Callable[[], None] | None = None
        """The rest of a rotation, if it is in the middle."""
        self.reuse = 0.5
        """How often a new file has the inode of an old one."""
        self.truncations = 0
        self.departures = 0
        """Names that went. Each, and each truncation, may be reported as a loss."""
        self.story: list[str] = []
        self.is_orderly = rng.random() < 0.3
        """Whether files are only written, rotated and truncated: the lines of a program are stored in their order."""
        usual: list[Callable[[], None]] = [
            *[self.write] * 12,
            self.write_half,
            self.rotate,
            self.rotate,
            self.copytruncate,
            self.copytruncate,
            self.rotate_twice,
            self.copytruncate_twice,
            self.truncate,
            self.reopen,
        ]
        unusual: list[Callable[[], None]] = [
            self.compress,
            self.delete,
            self.reuse_inode,
            self.move_away,
            self.move_back,
            self.lock,
            self.unlock,
            self.link,
            self.copy,
        ]
        self.actions = usual if self.is_orderly else usual + unusual
        self.old = path
        """Where rotation moves the older generations."""
        if self.is_orderly and rng.random() < 0.4:
            self.old = path / "old"

    # What the collector is measured by.

    def settle(self) -> None:
        """The collector has had the time to see everything that is here."""
        for contents in self.names.values():
            contents.is_known = contents.is_known or self.is_watched(contents)
        for log in self.logs:
            log.was_known = log.was_known or self.path / log.name in self.names

    def note_listed(self, folder: str, names: set[str]) -> None:
        """The collector has listed *folder*, and seen these *names*."""
        for path, contents in self.names.items():
            if path.parent.name == folder and path.name in names:
                contents.was_listed = True

    def finish(self) -> None:
        """Let everything be readable, and each line be whole."""
        self.finish_rotation()
        self.unlock_all()
        self.move_back_all()
        for log in self.logs:
            self.finish_line(log)

    # Actions of programs.

    def act(self) -> None:
        """Do one thing, at random."""
        action = self.rng.choice(self.actions)
        if action not in (self.write, self.write_half) or self.rng.random() < 0.2:
            self.finish_rotation()
        action()

    def write(self, log: Log | None = None) -> None:
        """Write some lines, in one call or several."""
        log = log or self.rng.choice(self.logs)
        self.open(log)
        self.finish_line(log)
        for _ in range(self.rng.choice([1, 1, 2])):
            if self.rng.random() < 0.1:
                self.put(log, self.make_traceback(), is_event=True)
            else:
                self.put(log, [self.make_line() for _ in range(self.rng.choice([1, 1, 2, 3, 8]))])

    def put(self, log: Log, made: list[bytes], *, is_event: bool = False) -> None:
        """Append whole lines to what *log* has open. With *is_event*, they belong together."""
        contents = self.of(log)
        size = len(made)
        if not contents.lines:  # no two files begin alike
            made = [self.unique(40), *made]
        self.say(f"{log.name}: {len(made)} lines, {b' '.join(text[:8] for text in made).decode()}")
        self.append(log, b"".join(text + b"\n" for text in made))
        lines = [Line(text.removesuffix(b"\r"), next(self.numbers)) for text in made]
        for line in lines:
            self.add(log, contents, line)
        if is_event:
            self.events.append(lines[-size:])

    def add(self, log: Log, contents: Contents, line: Line) -> None:
        """*line* is whole, in *contents*."""
        has_name = contents in self.names.values()
        if not has_name or not (contents.is_known or self.is_watched(contents)):
            line.least = 0
        if line.is_long:
            line.least, line.most = 0, 0
        contents.lines.append(line)
        self.lines.append(line)
        log.lines.append(line)

    def write_half(self) -> None:
        """Write the beginning of a line."""
        log = self.rng.choice(self.logs)
        self.open(log)
        self.finish_line(log)
        text = self.unique(self.rng.randrange(40, 120))
        cut = self.rng.randrange(PART_BYTES_MIN, len(text) - PART_BYTES_MIN)
        contents = self.of(log)
        self.say(f"{log.name}: half a line, {text[:8].decode()}")
        self.append(log, text[:cut])
        log.half_in = contents
        contents.half, contents.half_at, log.rest = Line(text, next(self.numbers), 0, 0), cut, text[cut:]
        if self.names.get(self.path / log.name) is not contents or contents.was_linked:
            contents.half.cut = cut  # the name under which it was found may be gone

    def finish_line(self, log: Log) -> None:
        """Write the rest of an unfinished line, wherever its beginning is."""
        if not log.rest:
            return
        self.open(log)
        contents, rest, log.rest = self.of(log), log.rest, b""
        self.say(f"{log.name}: the rest of a line, {rest[-8:].decode()}")
        self.append(log, rest + b"\n")
        before, log.half_in = log.half_in, None
        if before is not None and before is not contents and before.half is not None:
            self.tear(before)
        if contents.half is not None:
            line, contents.half = contents.half, None
            line.least = line.most = 1
            self.add(log, contents, line)
        else:  # the beginning is in another file, or destroyed
            self.add(log, contents, Line(rest, next(self.numbers)))

    def reopen(self, log: Log | None = None) -> None:
        """The program closes its file and opens its log by name."""
        log = log or self.rng.choice(self.logs)
        if log.fd == -1:
            return
        os.close(log.fd)
        log.fd = -1
        contents, log.contents = log.contents, None
        assert contents is not None
        if contents not in self.names.values():
            contents.destroy()
        if contents.half is not None and self.names.get(self.path / log.name) is not contents:
            self.tear(contents)
        self.say(f"{log.name}: reopened")

    def tear(self, contents: Contents) -> None:
        """Nobody will finish its last line: the beginning is a line of its own, perhaps."""
        line, contents.half = contents.half, None
        assert line is not None
        contents.is_torn = contents.was_torn = True
        line.text = line.text[: contents.half_at]
        line.most = 1  # taken after a while
        self.lines.append(line)

    # Actions of rotations.

    def rotate(self, log: Log | None = None) -> None:
        """Rename; create, or leave that to the program; it reopens at once or some time later."""
        log = log or self.rng.choice(self.logs)
        current = self.path / log.name
        if current not in self.names:
            return
        self.say(f"{log.name}: rotate")
        self.shift(log)
        self.rename(current, self.old / f"{log.name}.1")
        if (contents := log.contents) is not None and contents.half is not None:
            contents.half.cut = contents.half_at
        if self.rng.random() < 0.5:
            self.create(current, known=log.was_known)
        if self.rng.random() < 0.6:
            self.reopen(log)

    def rotate_twice(self) -> None:
        """Several generations at once."""
        log = self.rng.choice(self.logs)
        for _ in range(self.rng.choice([2, 2, 3])):
            self.rotate(log)
            self.reopen(log)
            self.write(log)

    def copytruncate(self, log: Log | None = None) -> None:
        """Copy, and truncate a little later."""
        log = log or self.rng.choice(self.logs)
        current = self.path / log.name
        if current not in self.names or self.names[current].is_closed or self.names[current].was_linked:
            return
        self.say(f"{log.name}: copied by a rotation")
        self.shift(log)
        old = self.names[current]
        target = self.old / f"{log.name}.1"
        shutil.copyfile(current, target)
        self.stamp(target, is_new=True)
        new = self.names[target] = Contents(is_known=old.is_known or log.was_known)
        new.original = old
        self.histories.append(new.lines)
        copied = len(old.lines)
        if old.half is not None:  # the copy ends with its beginning
            self.lines.append(Line(old.half.text[: old.half_at], old.half.number, 0, 1))
        new.lines += old.lines

        def end() -> None:
            self.say(f"{log.name}: truncated by the rotation")
            for line in old.lines[copied:]:  # gone for ever, unless it was read in time
                line.may_be_gone()
            if not new.is_known or new not in self.names.values():
                new.destroy()
            self.cut(current)
            if old.half is not None:
                self.tear(old)
            old.lines = []
            self.histories.append(old.lines)

        self.unfinished = end
        if self.rng.random() < 0.5:
            self.finish_rotation()

    def copytruncate_twice(self) -> None:
        """Several copies at once."""
        log = self.rng.choice(self.logs)
        for _ in range(self.rng.choice([2, 2, 3])):
            self.copytruncate(log)
            self.finish_rotation()
            self.write(log)

    def finish_rotation(self) -> None:
        """Truncate what was copied."""
        end, self.unfinished = self.unfinished, None
        if end is not None:
            end()

    def between(self) -> None:
        """What happens between the two steps of a rotation; the history of the collector overwrites it."""

    def truncate(self) -> None:
        """Truncate a log in place: what was not read is gone."""
        log = self.rng.choice(self.logs)
        current = self.path / log.name
        if current not in self.names:
            return
        self.say(f"{log.name}: truncate")
        contents = self.names[current]
        contents.destroy()
        self.cut(current)
        if contents.half is not None:
            self.tear(contents)
        contents.lines = []
        self.histories.append(contents.lines)

    def compress(self) -> None:
        """Compress the oldest generation of a log."""
        log = self.rng.choice(self.logs)
        for number in range(GENERATIONS, 0, -1):
            path = self.path / f"{log.name}.{number}"
            if path in self.names and log.contents is not self.names[path] and not self.names[path].is_closed:
                self.say(f"{path.name}: compress")
                with gzip.open(f"{path}.gz", "wb") as archive:
                    archive.write(path.read_bytes())
                self.give_inode(Path(f"{path}.gz"))
                self.remove(path)
                return

    def delete(self) -> None:
        """Delete a log, or a generation of it."""
        if self.names:
            path = self.rng.choice(list(self.names))
            if path.parent == self.path:
                self.say(f"{path.name}: delete")
                self.remove(path)

    def reuse_inode(self) -> None:
        """Delete a log, and create one that has its inode, if nobody has the old one open."""
        log = self.rng.choice(self.logs)
        current = self.path / log.name
        if current not in self.names or os.stat(current).st_nlink > 1:
            return
        self.reopen(log)
        self.remove(current)
        before, self.reuse = self.reuse, 1.0
        self.create(current, known=log.was_known)
        self.reuse = before
        self.say(f"{log.name}: replaced by a file with another inode, or the same")
        self.write(log)

    def move_away(self) -> None:
        """Move a file to another folder."""
        path = self.rng.choice([path for path in self.names if path.suffix == ".log"] or [self.path])
        if path.parent == self.path and not (self.away / path.name).exists():
            self.say(f"{path.name}: away")
            contents = self.names[path]
            self.rename(path, self.away / path.name)
            self.departures += 1
            if not contents.was_listed:  # until the collector has seen it, it is no generation of its log any more
                contents.is_known = False
            if contents.half is not None:
                contents.half.cut = contents.half_at

    def move_back(self) -> None:
        """Move a file back."""
        for path in [path for path in self.names if path.parent == self.away]:
            if self.path / path.name not in self.names:
                self.say(f"{path.name}: back")
                self.rename(path, self.path / path.name)
                return

    def move_back_all(self) -> None:
        """Move everything back, under other names where there is something else."""
        for path in [path for path in self.names if path.parent == self.away]:
            target = self.path / path.name
            while target in self.names:  # a name of the same kind: what was copied by a rotation stays out of the glob
                number = next(self.copies)
                is_log = path.suffix == ".log"
                target = target.with_name(f"back{number}.log" if is_log else f"{path.stem}.{GENERATIONS + number}")
            self.say(f"{path.name}: back as {target.name}")
            self.rename(path, target)

    def lock(self) -> None:
        """Nobody may read a log."""
        log = self.rng.choice(self.logs)
        current = self.path / log.name
        if current in self.names:
            self.say(f"{log.name}: unreadable")
            os.chmod(current, 0o200)
            self.names[current].is_closed = True

    def unlock(self) -> None:
        """They may again."""
        for path, contents in self.names.items():
            if contents.is_closed:
                self.say(f"{path.name}: readable")
                os.chmod(path, 0o644)
                contents.is_closed = False
                return

    def unlock_all(self) -> None:
        """They may read everything."""
        while any(contents.is_closed for contents in self.names.values()):
            self.unlock()

    def link(self) -> None:
        """Give a log a second name, which the collector sees too."""
        log = self.rng.choice(self.logs)
        current, target = self.path / log.name, self.path / f"link{next(self.copies)}.log"
        if current in self.names:
            self.say(f"{log.name}: also {target.name}")
            os.link(current, target)
            self.names[target] = self.names[current]
            self.names[current].was_linked = True

    def copy(self) -> None:
        """Copy a log to a name that the collector sees: another file, all of which is due."""
        log = self.rng.choice(self.logs)
        current, target = self.path / log.name, self.path / f"copy{next(self.copies)}.log"
        contents = self.names.get(current)
        if contents is None or contents.half is not None or contents.was_torn or contents.is_closed:
            return
        self.say(f"{log.name}: copied to {target.name}")
        shutil.copyfile(current, target)
        self.enter(target, known=True)
        self.names[target].lines += contents.lines
        for line in contents.lines:
            if not line.is_long:
                line.most += 1
                line.is_copied = True

    # Steps of these.

    def say(self, what: str) -> None:
        self.story.append(what)

    def unique(self, size: int) -> bytes:
        mark = b"%07d" % next(self.numbers)
        return mark + b" " + self.rng.randbytes(max(size - 16, 0)).translate(_LETTERS) + b" " + mark

    def make_line(self) -> bytes:
        """Return a line of any kind."""
        kinds: list[Callable[[], bytes]] = [
            bytes,
            lambda: self.unique(LINE_BYTES_MAX + self.rng.choice([1, 100, 3000])),
            lambda: self.unique(LINE_BYTES_MAX),
            lambda: self.unique(30) + bytes(self.rng.randrange(11, 256) for _ in range(20)) + self.unique(20),
            lambda: self.unique(30) + b"\r",
            lambda: b'{"n": "%b"}' % self.unique(20),
            *[lambda: self.unique(self.rng.choice([17, 40, 130]))] * 6,
        ]
        return self.rng.choice(kinds)()

    def make_traceback(self) -> list[bytes]:
        """Return the lines of a traceback."""
        frames = [self.unique(20) for _ in range(self.rng.choice([1, 2, 3]))]
        return [
            self.unique(20) + b" Traceback (most recent call last):",
            *(line for frame in frames for line in (b'  File "%b", line 1, in f' % frame, b"    " + self.unique(20))),
            b"ValueError: " + self.unique(20),
        ]

    def of(self, log: Log) -> Contents:
        assert log.contents is not None
        return log.contents

    def is_watched(self, contents: Contents) -> bool:
        """Whether one of its names is one that the collector looks for."""
        return any(path.suffix == ".log" and path.parent == self.path for path in self.names_of(contents))

    def names_of(self, contents: Contents) -> Iterable[Path]:
        return [path for path, each in self.names.items() if each is contents]

    def open(self, log: Log) -> None:
        """Open the log by its name, unless the program has it open."""
        if log.fd == -1:
            path = self.path / log.name
            log.fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if path not in self.names:
                self.enter(path, known=log.was_known)
            log.contents = self.names[path]

    def append(self, log: Log, data: bytes) -> None:
        """Write *data*, in one call or in several."""
        contents = self.of(log)
        if contents.is_torn and os.fstat(log.fd).st_size:
            data = b"\n" + data
            self.lines.append(Line(b"", 0, 0, 1))  # unless the beginning is taken alone before
        contents.is_torn = False
        while data:
            size = len(data) if self.rng.random() < 0.8 else self.rng.randrange(1, len(data) + 1)
            written = os.write(log.fd, data[:size])
            self.stamp(log.fd)
            data = data[written:]
            if data:
                self.between()

    def enter(self, path: Path, *, known: bool) -> None:
        """*path* is a new file."""
        self.stamp(path, is_new=True)
        contents = self.names[path] = Contents(is_known=known)
        self.histories.append(contents.lines)

    def stamp(self, file: Path | int, *, is_new: bool = False) -> None:
        """Give a file the time of the clock, which goes on."""
        self.clock.now += STEP_S
        os.utime(file, ns=(self.clock.wall_ns, self.clock.wall_ns))
        if is_new:
            self.give_inode(file)

    def give_inode(self, file: Path | int) -> None:
        """A new file has an inode that nobody used before, or one whose file is gone: also from all who had it open."""
        real = os.stat(file).st_ino
        in_use = {os.stat(path).st_ino for path in self.names if path != file}
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                in_use.add(os.fstat(int(fd)).st_ino)
        in_use.discard(real)
        gone = [number for number in self.inodes if number not in in_use]
        self.free_inodes += [self.inodes.pop(number).number for number in gone]
        number = next(self.numbers_of_inodes)
        if self.free_inodes and self.rng.random() < self.reuse:
            number = self.free_inodes.pop()
        self.inodes[real] = Inode(number, next(self.generations_of_inodes), self.clock.wall_ns)

    def create(self, path: Path, *, known: bool) -> None:
        """Create an empty file."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        self.enter(path, known=known)

    def shift(self, log: Log) -> None:
        """Give each generation the next number."""
        oldest = self.old / f"{log.name}.{GENERATIONS}"
        if oldest in self.names:
            self.remove(oldest)
        for number in range(GENERATIONS - 1, 0, -1):
            path = self.old / f"{log.name}.{number}"
            if path in self.names:
                self.rename(path, self.old / f"{log.name}.{number + 1}")

    def rename(self, path: Path, target: Path) -> None:
        """Rename *path*."""
        self.between()
        os.rename(path, target)
        contents = self.names.pop(path)
        if target in self.names and self.names[target] is not contents:
            self.lose_name(target)
        self.names[target] = contents
        if not contents.is_known and not self.is_watched(contents) and target.parent != self.away:
            contents.destroy()  # a file that was never seen under a name that the collector looks for

    def remove(self, path: Path) -> None:
        """Delete *path*."""
        self.between()
        path.unlink()
        self.lose_name(path)

    def lose_name(self, path: Path) -> None:
        self.departures += 1
        contents = self.names.pop(path)
        if contents.half is not None:  # taken alone after a while, also if the file has another name
            contents.half.cut = contents.half_at
        if contents not in self.names.values():
            contents.destroy()
            if contents.half is not None and all(log.contents is not contents for log in self.logs):
                self.tear(contents)

    def cut(self, path: Path) -> None:
        """Truncate *path*."""
        os.truncate(path, 0)
        self.stamp(path)
        self.truncations += 1

    def close(self) -> None:
        """The programs end."""
        for log in self.logs:
            if log.fd != -1:
                os.close(log.fd)
                log.fd = -1


def expected(lines: Iterable[Line]) -> dict[bytes, tuple[int, int]]:
    """Return how often each text has to be, and may be, stored."""
    least: Counter[bytes] = Counter()
    most: Counter[bytes] = Counter()
    for line in lines:
        least[line.text] += line.least
        most[line.text] += line.most
    return {text: (least[text], most[text]) for text in most}
