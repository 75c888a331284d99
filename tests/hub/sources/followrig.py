"""All files of a source without an event loop, and what a journal would have of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hub.message import FORGET, Batch, Loss, Position
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.fileowner import Owner
from hub.sources.fileparse import FileParser
from hub.sources.filereading import Item
from hub.sources.fileset import FileSet
from hub.sources.followed import file_clock_ns
from hub.sources.following import Following
from hub.sources.kinds import EXCLUDE

LONG = "a line that is long enough to tell a file from others by its beginning\n"


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
        self.claims: dict[bytes, FileSet] = {}
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
        positions, losses = self.it.take_unowned()
        self.store([*losses, *batches(positions)])

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


def tick() -> None:
    """Return when the clock that stamps files has moved on."""
    before = file_clock_ns()
    while file_clock_ns() == before:
        pass


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, *names: str) -> set[str]:
    """Let no file with one of *names* be opened, as long as its name is in the set that is returned."""
    opening, refused = os.open, set(names)

    def fail(path: str, *args: int, **options: Any) -> int:
        if os.path.basename(path) in refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    return refused
