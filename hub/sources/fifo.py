"""
A named pipe: any program that can write to a file can send lines.

Writers come and go. The pipe is opened once and stays open: closing it between two writers, to open it again, loses
what another one has just written (1 of 3,000 lines in each try). While no writer has it open, this process holds a
writing end of its own, or the event loop would be woken without pause; it closes that end when something arrives, so
that the end of the last writer is seen.

Always true:
- the pipe belongs to this user, or was there before; its folder is one in which no other user can replace it;
- mode and group of a pipe of ours are set through its descriptor, never by its name;
- the kernel does not report who wrote: the peer is the owner of the pipe, `verified` is false;
- half a line of the last writer ends with it, if that was seen before the next writer came;
- the pipe stays when the source ends. A shell that writes to a missing one would make a file.

Not here: lines (hub.wire.lines).
Source: fifo(7), pipe(7): the contents are lost with the last open end; a write of up to 4,096 bytes is not mixed with
others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Sequence

import msgspec

from hub.access import Gate
from hub.endpoint import Endpoint
from hub.errors import SourceError
from hub.intake import Data
from hub.message import Loss, Peer
from hub.socketpath import check_folder, group_id
from hub.sources.configured import ReadingSource, read_in_turn
from hub.sources.kinds import FileTable
from hub.sources.tagging import tagged
from hub.waiting import until_set
from hub.wire.detect import Item
from hub.wire.jsonrpc import Request
from hub.wire.lines import LineDecoder

LOOK_S = 1.0
"""How often the source looks whether the pipe is still in its place."""
POLL_S = 0.1
"""How often it looks for writers where it cannot have the event loop wait for them."""
DRAIN_BYTES_MAX = 16 << 20
"""Bytes read after a stop has begun: more than a pipe holds, and bounded for a writer that never stops."""
REQUEST = Loss("a request through a named pipe, which cannot get a reply")


class FifoSource(ReadingSource):
    """Takes the lines that are written to the pipe of *table*."""

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        super().__init__(table, endpoint)
        self._own_end = -1
        self._left_bytes = DRAIN_BYTES_MAX
        self._look_at = 0.0
        self._fd = open_fifo(self._table.path)
        try:
            self._identity = os.fstat(self._fd)
            self.permit(self._mode, self._group)
            self._identity = os.fstat(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        owner = self._identity
        peer = Peer(uid=owner.st_uid, gid=owner.st_gid, comm="fifo", verified=False)
        # The owner decides who may write, so the rules by user apply to the owner.
        gate = Gate(self._endpoint.access, msgspec.structs.replace(peer, verified=True), lambda: None)
        self._intake = self._endpoint.intake(peer, gate, self.tally)
        self._begin()

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the pipe, if it is ours. Raises MpsrError or OSError."""
        gid = os.getegid() if group is None else group_id(group)
        if self._identity.st_uid == os.geteuid():
            if gid != self._identity.st_gid:
                os.fchown(self._fd, -1, gid)
            os.fchmod(self._fd, mode)
        self._mode, self._group = mode, group

    async def stop(self, timeout: float) -> None:
        """Read what was written by now, and return when it is stored, at most *timeout* seconds later."""
        self._intake.lift_limits()
        await super().stop(timeout)

    async def run(self) -> None:
        """Read until `stop` is called; return when everything that was read is stored."""
        budget, holding = self._intake.budget, self._intake.holding
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fd, self._woken.set)
        try:
            while await self._read_some():
                pass
            await self._take(self._decoder.finish())
            await self._intake.all_settled()
        finally:
            loop.remove_reader(self._fd)
            budget.keep(holding, 0)
            self._close_own_end()
            os.close(self._fd)
            self._ended.set()

    def _begin(self) -> None:
        """Decode a new stream of lines."""
        intake = self._intake
        self._decoder = LineDecoder(intake.peer, intake, frame_bytes_max=self._endpoint.frame_bytes_max)

    async def _read_some(self) -> bool:
        """Read once, and take the result; False at the end."""
        intake = self._intake
        try:
            data = await read_in_turn(intake, self._fd)
        except BlockingIOError:
            return await self._wait()
        if not data:
            await self._take(self._decoder.finish())
            intake.budget.keep(intake.holding, 0)
            self._begin()
            await self._wait_for_writers()
            return not self._is_stopping
        self._close_own_end()
        intake.budget.arrived(intake.holding, len(data))
        self._left_bytes -= len(data) if self._is_stopping else 0
        return await self._decode(data) and self._left_bytes > 0

    async def _decode(self, data: bytes) -> bool:
        intake = self._intake
        self._decoder.limit(self._endpoint.frame_bytes_max)
        goes_on = True
        while goes_on and (data or self._decoder.has_more):
            await intake.ready()
            with intake.user.turn:
                items = self._decoder.receive(data)
            data = b""
            intake.budget.decoded(intake.holding, len(items))
            goes_on = await self._take(items)
        if not goes_on:  # its owner may not send: what follows is read, and counted as refused
            self._begin()
        intake.budget.keep(intake.holding, self._decoder.held_bytes)
        return True

    async def _take(self, items: Sequence[Item]) -> bool:
        kept = (item for item in items if not (isinstance(item, Request) and item.is_kept))  # it is a text, too
        return await self._intake.take([as_data(item, self._tag) for item in kept])

    async def _wait(self) -> bool:
        """Return when there may be something to read; False at a stop. Raises SourceError if the pipe was replaced."""
        if self._is_stopping:
            return False
        self._woken.clear()
        await until_set(self._woken, LOOK_S)
        now = asyncio.get_running_loop().time()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            check_place(self._table.path, self._identity)
        return True

    async def _wait_for_writers(self) -> None:
        """Have the event loop wait for the next writer, now that there is none."""
        if self._own_end == -1:
            try:
                self._own_end = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # it is another user's, and we may only read it; or there is no /proc
                await asyncio.sleep(POLL_S)

    def _close_own_end(self) -> None:
        if self._own_end != -1:
            os.close(self._own_end)
            self._own_end = -1


def open_fifo(path: str) -> int:
    """
    Return a descriptor to read the pipe at *path*, which is made for this user alone if it is missing.

    Raises SocketError if another user could replace it, SourceError or OSError.
    """
    check_folder(path)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    check_is_fifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def check_is_fifo(path: str) -> None:
    """Raise SourceError if what is at *path* is not a pipe, and OSError if nothing is there."""
    if not stat.S_ISFIFO(os.lstat(path).st_mode):
        raise SourceError(path, "a file that is not a pipe is already there (choose another path)")


def check_place(path: str, identity: os.stat_result) -> None:
    """Raise SourceError if the file *identity* is no longer at *path*."""
    try:
        if os.path.samestat(os.lstat(path), identity):
            return
    except FileNotFoundError:
        pass
    raise SourceError(path, "its file was removed or replaced: the hub uses what is there now, or makes a new pipe")


def as_data(item: Item, tag: bytes | None) -> Data:
    """Return *item* under *tag*, unless it names its own; a request as the loss that it is."""
    if isinstance(item, Request):
        return REQUEST
    return item if tag is None else tagged(item, tag)
