"""
The hub as a service: a `Hub` whose receiver writes to the journal, and its commands.

Start, in this order: inherited socket, descriptor limit, journal (locked and recovered), socket, receiver, spools of
dead producers (for at most `FIRST_LOOK_S`), accepting; then systemd is notified.

Stop, in the order in which the data flows:

1. accept no new producers: remove the path and accept the backlog (systemd's socket: leave both to the next hub);
2. read what producers have sent;
3. commit and acknowledge it;
4. let a follower in this process show the last messages;
5. seal and close the journal, always.

Not here: options and exit codes (hub.cli), settings (hub.service.settings), reloads (hub.service.reloading).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import termios
from collections.abc import Callable

from hub.access import Access
from hub.control.methods import RIGHTS, Commands
from hub.errors import JournalUnavailable, SocketError
from hub.hub import Hub
from hub.journal.journal import Journal
from hub.journal.reader import Gap
from hub.journal.retention import AGE_STEPS, batch_bytes_max_for
from hub.log import get_logger
from hub.message import Batch
from hub.receiver import Receiver
from hub.service.config import Config
from hub.service.reloading import Reloader
from hub.service.settings import LoadedConfig
from hub.service.systemd import SOCKET_NAME, Notifier, inherited_sockets
from hub.service.watchdog import Watchdog
from hub.sinks.stdout import Follower
from hub.sources.spool import Adoption
from hub.sources.spoolfolder import SpoolFolder
from hub.wire.spoolfile import folder_beside

EXPIRY_INTERVAL_MIN_S, EXPIRY_INTERVAL_S = 0.1, 60.0
STATUS_INTERVAL_S = 5.0
LOCK_INTERVAL_S = 1.0
FIRST_LOOK_S = 5.0
"""Longest wait before connections are accepted: messages of dead producers are stored before their successors'."""
log = get_logger("mpsr.service")


class Service:
    """
    Run a hub until it is stopped.

    *show* is called on a thread with each committed batch. *load* reads the configuration again.
    """

    def __init__(
        self,
        config: Config,
        *,
        show: Callable[[Batch | Gap], None] | None = None,
        load: Callable[[], LoadedConfig] | None = None,
    ) -> None:
        self._config = config
        self._show = show
        self._load = load or (lambda: LoadedConfig(config, {}, None))
        self._stopping = asyncio.Event()
        self._notifier = Notifier()
        self._reloader: Reloader | None = None

    async def run(self) -> None:
        """Start, serve until SIGTERM, SIGINT or `stop`, and stop gracefully. Raises the errors of hub.errors."""
        config = self._config
        self._notifier = Notifier.from_environment()
        made = inherited_sockets().get(SOCKET_NAME)
        _raise_descriptor_limit()
        journal = await Journal.open(
            config.journal, retain_bytes=config.journal_size, retain_s=config.retain, durability=config.durability
        )
        try:
            await self._serve(journal, made)
        finally:
            await journal.close()
            self._notifier.close()
        log.info("hub.stopped", last_sequence=journal.last_sequence)

    def stop(self) -> None:
        """Request a graceful stop."""
        self._stopping.set()

    async def _serve(self, journal: Journal, made: socket.socket | None) -> None:
        config = self._config
        frame_bytes_max = min(config.frame_size, batch_bytes_max_for(config.journal_size))
        commands, access = Commands(self._reload), Access(config.rules, methods=RIGHTS)
        hub = Hub(
            config.socket,
            sock=made,
            waits=True,
            mode=config.mode,
            group=config.group,
            commands=commands.table,
            access=access,
            connections_max=config.connections_max,
            inbox_bytes_max=config.inbox_size,
            frame_bytes_max=frame_bytes_max,
        )
        commands.attach(hub, journal)
        recovered, loop = journal.recovered, asyncio.get_running_loop()
        watchdog = Watchdog(self._notifier.watchdog, self._notifier.watchdog_s)
        async with hub:
            hub.metrics.losses += recovered.missing
            receiver = Receiver(hub.inbox, journal, hub.metrics, watch=watchdog)
            receiving = asyncio.create_task(receiver.run(), name="mpsr-receiver")
            guarding = asyncio.create_task(self._guard(journal), name="mpsr-guard")
            adoption = self._adoption(hub, access, frame_bytes_max)
            self._reloader = Reloader(config, self._load, hub, journal, access, follow_socket=adoption.follow_socket)
            helping = [asyncio.create_task(adoption.run(), name="mpsr-adopt")]
            follower = Follower(journal, self._show) if self._show is not None else None
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, sys.stderr.isatty())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LOOK_S):
                    await adoption.has_looked.wait()
            hub.accept()
            beside = {
                "expire": self._expire(journal),
                "tell": self._tell(hub, journal),
                "watchdog": watchdog.run(),
            }
            helping += [asyncio.create_task(work, name=f"mpsr-{name}") for name, work in beside.items()]
            log.info(
                "hub.listening",
                socket=hub.path,
                journal=journal.path,
                pid=os.getpid(),
                last_sequence=journal.last_sequence,
                cut_bytes=recovered.cut_bytes,
                missing=recovered.missing,
            )
            self._notifier.ready()
            gc.freeze()  # existing objects stay; scanning them in a full collection would block the loop for 10 ms
            try:
                await self._until_stopped(receiving, guarding)
                await self._stop(hub, journal, receiving)
                if follower is not None and not await follower.finish(self._in_force.stop_timeout):
                    log.warning("hub.output_unread", reason="nobody reads what --print prints")
            finally:
                for task in (receiving, guarding, *helping):
                    task.cancel()

    def _adoption(self, hub: Hub, access: Access, frame_bytes_max: int) -> Adoption:
        """Return the reader of the producers' spools."""
        adoption = Adoption(
            SpoolFolder(folder_beside(hub.path), hub.path),
            hub.intake,
            users=hub.users,
            access=access,
            metrics=hub.metrics,
            frame_bytes_max=frame_bytes_max,
        )
        hub.on_connection_end = adoption.connection_ended
        return adoption

    async def _until_stopped(self, receiving: asyncio.Task[None], guarding: asyncio.Task[None]) -> None:
        """Wait for a stop request. Raises what ended the receiver or the guard; SocketError if accepting failed."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((stopping, receiving, guarding), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if guarding.done():
            await guarding
        if receiving.done():
            await receiving
            raise SocketError(self._config.socket, "connections cannot be accepted any longer (see the log above)")

    @property
    def _in_force(self) -> Config:
        return self._config if self._reloader is None else self._reloader.config

    async def _reload(self) -> object:
        """Read the configuration again. Raises the errors of hub.errors, with nothing changed."""
        assert self._reloader is not None
        self._notifier.reloading()
        try:
            return await self._reloader.reload()
        finally:
            self._notifier.ready()

    def _hang_up(self, had_terminal: bool) -> None:
        """Handle SIGHUP: reload, or stop if the terminal has closed."""
        if had_terminal and not _has_terminal():
            self.stop()
            return
        task = asyncio.get_running_loop().create_task(self._reload(), name="mpsr-reload")
        task.add_done_callback(lambda done: done.exception())  # it is logged already

    async def _guard(self, journal: Journal) -> None:
        """Check the journal's lock every `LOCK_INTERVAL_S`, even while nothing is written. Raises JournalLost."""
        while True:
            await asyncio.sleep(LOCK_INTERVAL_S)
            await journal.check_lock()

    async def _expire(self, journal: Journal) -> None:
        """
        Delete segments older than `retain`, every `retain / AGE_STEPS` (0.1 to 60 s).

        Segments beyond `journal_size` are deleted when a new segment is begun.
        """
        while True:
            retain_s = self._in_force.retain
            wait_s = EXPIRY_INTERVAL_S if retain_s is None else retain_s / AGE_STEPS
            await asyncio.sleep(min(max(wait_s, EXPIRY_INTERVAL_MIN_S), EXPIRY_INTERVAL_S))
            if retain_s is None:
                continue
            try:
                if segments := await journal.expire():
                    log.info("journal.expired", segments=segments, journal_bytes=journal.size_bytes)
            except JournalUnavailable as error:
                log.error("journal.unavailable", error=str(error))

    async def _tell(self, hub: Hub, journal: Journal) -> None:
        """Send the status line for `systemctl status` every `STATUS_INTERVAL_S`."""
        while self._notifier.is_active:
            received, size = (
                f"{hub.metrics.messages:,} messages since the start",
                f"{journal.size_bytes / 2**20:,.0f} MiB",
            )
            self._notifier.status(f"{received}, {hub.connections:,} connections, {size} of journal")
            await asyncio.sleep(STATUS_INTERVAL_S)

    async def _stop(self, hub: Hub, journal: Journal, receiving: asyncio.Task[None]) -> None:
        """Stop within one deadline. Raises JournalUnavailable if the disk did not accept everything by then."""
        loop, timeout_s = asyncio.get_running_loop(), self._in_force.stop_timeout
        deadline = loop.time() + timeout_s
        self._notifier.stopping()
        log.info("hub.stopping", connections=hub.connections)
        late = await hub.stop(timeout=timeout_s)
        if late:
            log.warning("hub.stopped_late", connections=late, timeout_s=timeout_s)
        done, _ = await asyncio.wait((receiving,), timeout=max(deadline - loop.time(), 1.0))
        if not done:
            receiving.cancel()
            raise JournalUnavailable(journal.path, "it did not take the last messages; they were not acknowledged")
        await receiving


def _has_terminal() -> bool:
    try:
        termios.tcgetattr(2)
    except termios.error:  # EIO: hung up
        return False
    return True


def _raise_descriptor_limit() -> None:
    """Raise the soft limit on descriptors to the hard limit: each connection needs one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS reports "unlimited" but allows 10,240
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
