"""
A socket for datagrams, as /dev/log is one.

It takes lines of syslog, and the native protocol of journald; the form of a datagram shows which it is.

The kernel names the writer of each datagram (SO_PASSCRED), also after a fork. It drops nothing: while the queue of a
Unix socket is full (`net.unix.max_dgram_qlen` datagrams, 10 unless that is set; SO_RCVBUF has no effect), writers wait,
or get EAGAIN. So there is no count of drops; SO_RXQ_OVFL can be set and stays 0.

Always true:
- a datagram is stored in the name of its writer, at the expense of its user; no user waits for the room of another for
  longer than hub.sources.lane says;
- one step on the loop reads for `STEP_S`;
- a stop reads what was sent.

Not here: the shapes (hub.wire.journald, hub.wire.sysloglines), the shares of users (hub.sources.lane), descriptors
(hub.sources.passed).
Source: unix(7), SCM_CREDENTIALS.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import OrderedDict
from typing import NamedTuple

from hub.access import Gate
from hub.endpoint import Endpoint
from hub.intake import Intake
from hub.log import get_logger
from hub.message import Peer
from hub.peer import identified
from hub.socketfile import SocketFile
from hub.sources.configured import ReadingSource
from hub.sources.kinds import FileTable
from hub.sources.lane import NO_ROOM, Arrived, Lane
from hub.sources.passed import DESCRIPTORS_MAX, Passed

LOOK_S = 1.0
"""How often the source looks whether clients can find the socket."""
STEP_S = 0.0005
"""The time of a round of the loop that reading the socket may take; decoding takes place in the turns of the users."""
DATAGRAM_BYTES_MAX = 1 << 20
"""The largest datagram. A writer that is not root cannot send more than `net.core.wmem_max`, 212,992 bytes."""
LOOK_EACH = 8
"""How many datagrams are read between two looks at the clock."""
READ_S = 5e-6
"""The time that reading a datagram takes; it counts as its user's time on the loop."""
DRAIN_MAX = 100_000
"""Datagrams that are read after a stop has begun: bounded for writers that never stop."""
WRITERS_MAX = 256
"""Maximum writers that are remembered, and users."""
COMMAND_S = 1.0
"""How long the command name of a process is remembered, because a look at /proc takes 20 µs."""
_CREDENTIALS = struct.Struct("3i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
_SCM_CREDENTIALS = 2
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_CUT = int(socket.MSG_TRUNC)
"""Numbers, because operations on the members of an enumeration cost more than a look at the clock."""
_NOBODY = (0, -1, -1)
log = get_logger("mpsr.sources")


class _Received(NamedTuple):
    """The data that came with a datagram, whose bytes are in the buffer."""

    size: int
    ancillary: list[tuple[int, int, bytes]]
    is_cut: bool


class DatagramSource(ReadingSource):
    """Serves the socket of *table*."""

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        super().__init__(table, endpoint)
        self._budget = endpoint.inbox.budget
        self._buffer = bytearray(DATAGRAM_BYTES_MAX)
        self._view = memoryview(self._buffer)
        self._writers: OrderedDict[tuple[int, int, int], tuple[Intake, float]] = OrderedDict()
        self._lanes: OrderedDict[int, Lane] = OrderedDict()
        self._first: _Received | None = None  # read when it arrived, and not taken yet
        self._file = SocketFile.bind(self._table.path, mode=self._mode, group=self._group, kind=socket.SOCK_DGRAM)
        self._passed = Passed(self._file.sock)

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the socket's file. Raises MpsrError."""
        self._file.permit(mode, group)
        self._mode, self._group = mode, group

    async def stop(self, timeout: float) -> None:
        """Read what was sent by now, and return when it is stored, at most *timeout* seconds later."""
        for intake, _ in self._writers.values():
            intake.lift_limits()
        for lane in self._lanes.values():
            lane.lift_limits()
        await super().stop(timeout)

    async def run(self) -> None:
        """Read until `stop` is called, and take what was sent. Raises MpsrError or OSError."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._file.sock.fileno(), self._read_first)
        looking = asyncio.create_task(self._look_often(), name="mpsr-look")
        try:
            while not self._is_stopping:
                await self._woken.wait()
                await self._read_all(self._file.sock)
                self._woken.clear()  # what has arrived since wakes it again: the socket stays readable
                if self._file.is_lost and not self._is_stopping:
                    await self._renew()
            self._file.remove()
            await self._read_all(self._file.sock)
            if tasks := [lane.task for lane in self._lanes.values() if lane.task is not None]:
                await asyncio.wait(tasks)
        finally:
            looking.cancel()
            loop.remove_reader(self._file.sock.fileno())
            self._file.remove()
            self._file.close()
            self._passed.close()
            for lane in self._lanes.values():
                lane.close()
            self._ended.set()

    async def _look_often(self) -> None:
        """Have the file of the socket checked, even while nothing arrives."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._woken.set()

    async def _renew(self) -> None:
        """Bind the socket anew, and read what is in the former one. Raises MpsrError."""
        loop = asyncio.get_running_loop()
        former = self._file.listen_again(self._mode, self._group)
        log.warning("socket.renewed", socket=self._table.path)
        loop.remove_reader(former.fileno())
        with former:
            await self._read_all(former)
        self._passed.close()
        self._passed = Passed(self._file.sock)
        loop.add_reader(self._file.sock.fileno(), self._read_first)

    def _read_first(self) -> None:
        """Read one datagram when it arrives: its writer may be about to end, and with it the name of its command."""
        if not self._woken.is_set():
            self._woken.set()
            self._first = self._read(self._file.sock)
            if self._first is not None:
                self._intake(writer_of(self._first.ancillary))

    def _read(self, sock: socket.socket) -> _Received | None:
        """Read a datagram into the buffer; None if there is none."""
        try:
            size, ancillary, flags, _ = sock.recvmsg_into((self._buffer,), _ANCILLARY_BYTES, _FLAGS)
        except BlockingIOError:
            return None
        return _Received(size, ancillary, flags & _CUT != 0)

    async def _read_all(self, sock: socket.socket) -> None:
        """Read until nothing is left; at a stop, about as much as was there."""
        loop = asyncio.get_running_loop()
        began, read = loop.time(), 0
        while not (self._is_stopping and read >= DRAIN_MAX):
            received, self._first = self._first or self._read(sock), None
            if received is None:
                return
            read += 1
            if (found := self._sort(received)) is not None:
                lane, arrived = found
                if lane.has_room or await lane.room():
                    lane.add(arrived)
                else:
                    _drop(lane, arrived)
            if read % LOOK_EACH == 0 and loop.time() - began >= STEP_S:
                await asyncio.sleep(0)
                began = loop.time()

    def _sort(self, received: _Received) -> tuple[Lane, Arrived] | None:
        """Return the datagram in the buffer and its writer's lane; None if it is lost, or nothing is in it."""
        size, file, passed = received.size, None, 0
        for level, kind, data in received.ancillary:
            if kind != _SCM_CREDENTIALS and level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                file, passed = self._passed.take(data)
        intake = self._intake(writer_of(received.ancillary))
        lane = self._lane(intake)
        lane.user.turn.spend(READ_S)
        if file is not None and size:  # the file is for an empty datagram only
            file.close()
            file = None
        if received.is_cut or size > lane.frame_bytes_max:
            limit = min(DATAGRAM_BYTES_MAX, lane.frame_bytes_max)
            lane.lose(intake, f"a datagram over the limit of {limit} bytes", size)
            return None
        if not size and file is None:
            if passed:
                lane.lose(intake, "a descriptor that is no sealed memfd", 0)
            return None
        return lane, Arrived(intake, bytes(self._view[:size]), file)

    def _intake(self, writer: tuple[int, int, int]) -> Intake:
        """Return the intake for what *writer*, a process, sends."""
        now = asyncio.get_running_loop().time()
        intake, known_at = self._writers.get(writer, (None, 0.0))
        if intake is not None and now < known_at + COMMAND_S:
            return intake
        self._writers.pop(writer, None)
        pid, uid, gid = writer
        peer = identified(pid, uid, gid) if pid > 0 else Peer(pid, uid, gid, verified=writer != _NOBODY)
        if intake is None or (peer.comm and peer != intake.peer):  # another program, or another process of this number
            # The kernel reports one group of the writer of a datagram, not all: rules by group take them as unknown.
            intake = self._endpoint.intake(peer, Gate(self._endpoint.access, peer, lambda: None), self.tally)
            if self._is_stopping:
                intake.lift_limits()
        self._writers[writer] = intake, now
        if len(self._writers) > WRITERS_MAX:
            self._writers.popitem(last=False)
        return intake

    def _lane(self, intake: Intake) -> Lane:
        uid = intake.user.uid
        lane = self._lanes.get(uid)
        if lane is None:
            lane = Lane(intake.user, self._budget, self._tag, self._endpoint.frame_bytes_max)
            self._lanes[uid] = lane
            if len(self._lanes) > WRITERS_MAX:
                self._forget_idle()
        lane.frame_bytes_max = self._endpoint.frame_bytes_max
        return lane

    def _forget_idle(self) -> None:
        for uid, lane in list(self._lanes.items()):
            if lane.is_idle:
                lane.close()
                del self._lanes[uid]


def _drop(lane: Lane, arrived: Arrived) -> None:
    """Count the loss of a datagram for which there is no room."""
    if arrived.file is not None:
        arrived.file.close()
    lane.lose(arrived.intake, NO_ROOM, len(arrived.data))


def writer_of(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, int]:
    """Return process, user and group of the writer, as the kernel reports them with a datagram."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SCM_CREDENTIALS:
            pid, uid, gid = _CREDENTIALS.unpack_from(data)
            return pid, uid, gid
    return _NOBODY
