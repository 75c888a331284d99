"""
The hub as a service: a `Hub` whose receiver is the journal, and its commands.

Start: descriptors, journal (locked and recovered), receiver, socket. Stop, in the order the data flows:

1. no new producers: the path goes away, the backlog is accepted;
2. what producers have sent is read;
3. it is committed and acknowledged;
4. whoever follows in this process sees the last of it;
5. the journal is sealed and closed, always.

Not here: options and exit codes (hub.cli).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable

import msgspec

from hub.commands import Commands
from hub.errors import JournalUnavailable, SocketError
from hub.follower import Follower
from hub.hub import STOP_TIMEOUT_S, Hub
from hub.inbox import INBOX_BYTES_MAX
from hub.journal.journal import Journal
from hub.journal.reader import Gap
from hub.journal.retention import AGE_STEPS, KEEP_BYTES
from hub.journal.writer import Durability
from hub.listener import CONNECTIONS_MAX
from hub.message import Batch
from hub.receiver import Receiver
from hub.reporting import get_logger
from hub.wire.frame import FRAME_BYTES_MAX

EXPIRY_INTERVAL_MIN_S, EXPIRY_INTERVAL_S = 0.1, 60.0
log = get_logger("mpsr.service")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is told."""

    socket: str
    journal: str
    journal_bytes: int = KEEP_BYTES
    retain_s: float | None = None
    durability: Durability = "fsync"
    mode: int = 0o660
    group: str | None = None
    connections_max: int = CONNECTIONS_MAX
    inbox_bytes_max: int = INBOX_BYTES_MAX
    frame_bytes_max: int = FRAME_BYTES_MAX
    stop_timeout_s: float = STOP_TIMEOUT_S


class Service:
    """Run a hub until it is stopped. *show* is called, on a thread, with each batch that was committed."""

    def __init__(self, options: Options, *, show: Callable[[Batch | Gap], None] | None = None) -> None:
        self._options = options
        self._show = show
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start, serve until SIGTERM, SIGINT or `stop`, and stop gracefully. Raises what hub.errors names."""
        options = self._options
        _raise_descriptor_limit()
        journal = await Journal.open(
            options.journal,
            keep_bytes=options.journal_bytes,
            keep_s=options.retain_s,
            durability=options.durability,
        )
        try:
            await self._serve(journal)
        finally:
            await journal.close()
        log.info("hub.stopped", last_sequence=journal.last_sequence)

    def stop(self) -> None:
        """Ask for a graceful stop."""
        self._stopping.set()

    async def _serve(self, journal: Journal) -> None:
        options = self._options
        commands = Commands()
        hub = Hub(
            options.socket,
            mode=options.mode,
            group=options.group,
            commands=commands.table,
            connections_max=options.connections_max,
            inbox_bytes_max=options.inbox_bytes_max,
            frame_bytes_max=options.frame_bytes_max,
        )
        commands.attach(hub, journal)
        recovered, loop = journal.recovered, asyncio.get_running_loop()
        async with hub:
            receiving = asyncio.create_task(Receiver(hub.inbox, journal, hub.metrics).run(), name="mpsr-receiver")
            expiring = asyncio.create_task(self._expire(journal), name="mpsr-expire")
            follower = Follower(journal, self._show) if self._show is not None else None
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            log.info(
                "hub.listening",
                socket=hub.path,
                journal=journal.path,
                pid=os.getpid(),
                last_sequence=journal.last_sequence,
                cut_bytes=recovered.cut_bytes,
                missing=recovered.missing,
            )
            try:
                await self._until_stopped(receiving)
                await self._stop(hub, journal, receiving)
                if follower is not None and not await follower.finish(options.stop_timeout_s):
                    log.warning("hub.output_unread", reason="nobody reads what --print prints")
            finally:
                receiving.cancel()
                expiring.cancel()

    async def _until_stopped(self, receiving: asyncio.Task[None]) -> None:
        """Return when a stop is asked for. Raises what ended the receiver, or SocketError if nobody is accepted."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((stopping, receiving), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if receiving.done():
            await receiving
            raise SocketError(self._options.socket, "connections cannot be accepted any longer (see the log above)")

    async def _expire(self, journal: Journal) -> None:
        """Delete what is too old, now and then; what is too much goes whenever a segment is begun."""
        while self._options.retain_s is not None:
            await asyncio.sleep(min(max(self._options.retain_s / AGE_STEPS, EXPIRY_INTERVAL_MIN_S), EXPIRY_INTERVAL_S))
            try:
                if segments := await journal.expire():
                    log.info("journal.expired", segments=segments, journal_bytes=journal.bytes)
            except JournalUnavailable as error:
                log.error("journal.unavailable", error=str(error))

    async def _stop(self, hub: Hub, journal: Journal, receiving: asyncio.Task[None]) -> None:
        """Stop within one deadline. Raises JournalUnavailable if the disk did not take everything by then."""
        loop, timeout_s = asyncio.get_running_loop(), self._options.stop_timeout_s
        deadline = loop.time() + timeout_s
        log.info("hub.stopping", connections=hub.connections)
        late = await hub.stop(timeout_s=timeout_s)
        if late:
            log.warning("hub.stopped_late", connections=late, timeout_s=timeout_s)
        done, _ = await asyncio.wait((receiving,), timeout=max(deadline - loop.time(), 1.0))
        if not done:
            receiving.cancel()
            raise JournalUnavailable(journal.path, "it did not take the last messages; they were not acknowledged")
        await receiving


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: one a connection, and some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and means 10,240
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
