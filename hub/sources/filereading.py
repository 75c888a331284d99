"""
Reads the files of one owner, some at a time.

Always true:
- positions of one file go through the intake of its owner, in order;
- a step takes at most `STEP_S` of the interpreter's time, and the bytes that it was allowed, except for one line;
- a file that was truncated, or that belongs to another user now, is read on when everything of it is stored.

Not here: one read (hub.sources.followed), whose turn it is (hub.sources.readorder).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from hub.checksum import crc32
from hub.log import get_logger
from hub.message import Batch, Loss, Position, position_batches
from hub.sources.filecheck import Truncated
from hub.sources.fileowner import Owner
from hub.sources.fileparse import FileParser, Run
from hub.sources.fileset import FileSet
from hub.sources.followed import READ_BYTES, Followed, Moved
from hub.sources.lookfolder import Folders
from hub.sources.openfiles import OpenFiles
from hub.sources.readorder import ReadOrder
from hub.sources.rotations import Rotations

STEP_S = 0.003
"""CPU time of a step: the interpreter switches to a waiting thread after 5 ms."""
STEP_BYTES = 1 << 20
SMALL_BYTES = 64 << 10
"""A step that may read less than this ends, if it has read anything."""
POSITIONS_STEP = 512
UNKNOWN = (0, 0)
"""The stamp of a file that is to be looked at as if it were new."""
Item = Batch | Loss
log = get_logger("mpsr.files")


class Step(NamedTuple):
    """
    What a step has given to the intake of an owner.

    *room_bytes*: the room that the next step needs. *released*: files that go on once all this is stored (and what was
    given before it): the items of *barrier* follow *items*, and nothing else of these files is under way.
    """

    items: list[Item]
    read_bytes: int = 0
    room_bytes: int = 0
    barrier: tuple[Item, ...] = ()
    released: tuple[Followed, ...] = ()


class FileReading:
    """Reads *files* with *parser*, in their *order*."""

    def __init__(
        self,
        files: FileSet,
        folders: Folders,
        order: ReadOrder,
        open_files: OpenFiles,
        rotations: Rotations,
        parser: FileParser,
        *,
        line_bytes_max: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._files = files
        self._folders = folders
        self._order = order
        self._open = open_files
        self._rotations = rotations
        self._parser = parser
        self._line_bytes_max = line_bytes_max
        self._clock = clock
        self.has_restarted = False
        """Whether a truncated file was restarted: its copies, and other generations, were searched for then."""

    def step(self, owner: Owner, bytes_max: int) -> Step:
        """Read some files of *owner*, at most *bytes_max* bytes."""
        items: list[Item] = []
        if owner.rows or owner.losses:
            positions = [owner.rows.popleft() for _ in range(min(len(owner.rows), POSITIONS_STEP))]
            items += position_batches(positions, peer=owner.peer)
            if not owner.rows:
                items += owner.losses
                owner.losses = []
            return Step(items)
        ends_at, read_bytes, line_bytes_max = time.thread_time() + STEP_S, 0, self._line_bytes_max()
        bytes_min = min(bytes_max, SMALL_BYTES)  # no read for a rest that has no whole line
        while owner.ready and bytes_max - read_bytes >= bytes_min and time.thread_time() < ends_at:
            file = owner.ready.popleft()
            file.is_queued = False
            if not self._files.is_followed(file) or file.is_blocked or self._order.waits(file):
                continue
            if file.new_owner is not None:
                self._files.change_owner(file)
                file.is_blocked = True
                return Step(items, read_bytes, released=(file,))
            was_drained, is_begun = file.is_drained, bool(file.offset)
            try:
                if file.is_unproved:
                    self._rotations.prove(file)
                size = min(bytes_max - read_bytes, max(READ_BYTES, file.room_bytes))
                taken = file.read(self._parser, bytes_max=size, line_bytes_max=line_bytes_max, now=self._clock())
            except Truncated:
                return self._truncated(file, owner, items, read_bytes)
            except Moved:
                self._has_moved(file)
                continue
            except OSError as error:
                self._cannot_read(file, error)
                continue
            self._opened(file)
            if not is_begun and taken.runs and self._rotations.is_overtaken(file):
                self._look_first(file)
                continue
            for run, position in taken.runs:
                read_bytes += run.size
                items.append(_item(run, position, file, owner))
            if taken.room_bytes > size:
                file.is_queued = True
                owner.ready.appendleft(file)
                return Step(items, read_bytes, room_bytes=taken.room_bytes)
            self._after_read(file, owner, was_drained=was_drained, has_more=taken.has_more)
        return Step(items, read_bytes)

    def released(self, files: Sequence[Followed]) -> None:
        """Let *files* be read again: what they waited for is stored."""
        for file in files:
            file.is_blocked = False
            self._order.ready(file)

    def _after_read(self, file: Followed, owner: Owner, *, was_drained: bool, has_more: bool) -> None:
        if file.is_drained and not was_drained:
            self._order.ready_younger(file)
        if file.offset and not file.read_ns and not file.is_rotated:
            file.read_ns = time.time_ns()  # not before what is in its copies was made, whichever clock that has
            self._search_again(file)
        if not file.offset and file.size < file.aside_bytes:  # it was truncated
            file.aside_bytes = 0
            self._search_again(file)
        if has_more:
            file.is_queued = True
            owner.ready.append(file)
            return
        if not file.unread_bytes:
            file.unread_since = None

    def _search_again(self, file: Followed) -> None:
        """Let generations of *file* be searched for, if it is not known yet which there are."""
        if file.path in self._rotations.searching.incomplete:
            self._files.changed.add(file.path)
            self._look_again(file)

    def _truncated(self, file: Followed, owner: Owner, items: list[Item], read_bytes: int) -> Step:
        """Let *file* and its copies wait until what follows from its truncation is stored."""
        self.has_restarted = True
        try:
            restarted = self._rotations.restart(file)
        except (OSError, Moved):
            self._has_moved(file)
            return Step(items, read_bytes)
        self._opened(file)
        if restarted is None:
            self._order.ready(file)
            return Step(items, read_bytes)
        self._look_again(file)
        barrier: list[Item] = [*position_batches(restarted.positions, peer=owner.peer)]
        if restarted.loss is not None:
            barrier = [restarted.loss]
        return Step(items, read_bytes, barrier=tuple(barrier), released=restarted.released)

    def _look_first(self, file: Followed) -> None:
        """Take back the first read of *file*: older generations, which no look has found yet, are to be read before."""
        file.restart(0)
        folder = self._folders.get(os.path.dirname(file.home))
        if folder is not None and file.doubted_in != folder.looks:
            file.doubted_in = folder.looks
            file.doubts += 1
        self._files.changed.add(file.path)
        self._look_again(file)

    def _has_moved(self, file: Followed) -> None:
        """Another file has its name, or none: the folder is looked through again."""
        self._look_again(file)
        file.stamp = UNKNOWN
        if file.unread_since is None:
            file.unread_since = time.time()

    def _look_again(self, file: Followed) -> None:
        if (folder := self._folders.get(file.folder)) is not None:
            folder.note_changed(None)

    def _cannot_read(self, file: Followed, error: OSError) -> None:
        self._open.close(file)
        file.is_unreadable = True
        file.stamp = UNKNOWN
        if file.path in self._rotations.searching.incomplete:
            self._files.changed.add(file.path)  # the next look takes what does not wait for it
        self._files.complaints.log(log.warning, "files.unreadable", file.place, error=error.strerror)
        self._order.ready_younger(file)

    def _opened(self, file: Followed) -> None:
        self._files.complaints.end("files.unreadable", file.place)
        self._open.used(file, self._clock())


def _item(run: Run, position: Position, file: Followed, owner: Owner) -> Item:
    if run.loss is not None:
        return msgspec.structs.replace(run.loss, tag=file.tag, positions=(position,))
    crc, positions = crc32(run.entries), (position,)
    return Batch(file.tag, run.entries, run.messages, None, owner.peer, crc=crc, positions=positions)
