"""
The hub as a service: an `Endpoint` whose receiver writes to the journal, and what belongs to a daemon.

Before the parts: inherited socket, descriptor limit, signals (noted until the parts run), journal (locked and
recovered), socket (bound: clients wait in the backlog). The parts are started in the order of `Service._parts`:

1. watchdog, status line and garbage collection (which wait until the hub is ready), check of the journal's lock,
   expiry, indexes of the journal;
2. sinks, which print or deliver what is committed from now on, and alerts;
3. the receiver;
4. sources: the spools of dead producers, for at most `FIRST_LOOK_S`; those that are configured, each tried once;
5. the socket: connections are accepted; its path, which is bound anew if it was removed;
6. reloads by SIGHUP.

Then systemd is notified. A part that fails stops the service, which raises its error: in order, or at once if it is the
receiver or the check of the lock, without which nothing can be stored.

Parts are stopped in reverse order, which is that of the data, within `stop_timeout`, and at most `STOP_GRACE_S` more
for each part with a `grace_s`: the receiver, each sink, and a source that cannot read its bytes again:

1. the socket accepts no new producers (remove the path and accept the backlog; systemd's socket: leave both to the next
   hub), and reads what producers have sent;
2. the other sources stop;
3. the receiver commits and acknowledges it;
4. sinks print the last messages;
5. the journal is closed, always, and sealed if the lock is still ours.

A new source or sink: docs/extending.md.

Not here: running the parts (hub.service.parts), the work of the small ones (hub.service.housekeeping), signals
(hub.service.signals), options and exit codes (hub.cli), settings (hub.service.settings), reloads
(hub.service.reloading).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hub.access import Access
from hub.alerts.alerts import Alerts
from hub.alerts.dryrun import DryRun
from hub.alerts.runner import check_readers, make_runner
from hub.control.events import Events
from hub.control.figures import Figures
from hub.control.looking import Looking
from hub.control.methods import RIGHT_OF, RIGHT_OF_EVENT, Commands
from hub.control.reading import Readings
from hub.dispatch import ForCaller
from hub.endpoint import Endpoint
from hub.errors import MpsrError
from hub.journal.journal import Journal
from hub.journal.reader import Gap
from hub.log import get_logger
from hub.losses import Losses, LossRow
from hub.message import UNKNOWN_PEER, Batch, Loss
from hub.receiver import Receiver
from hub.service import housekeeping, signals
from hub.service.config import Config
from hub.service.garbage import FullCollections
from hub.service.inforce import in_force
from hub.service.parts import Part, run_parts
from hub.service.reloading import Reloader
from hub.service.settings import LoadedConfig
from hub.service.systemd import SOCKET_NAME, Notifier, inherited_sockets
from hub.service.upkeep import Upkeep
from hub.service.watchdog import Watchdog
from hub.sinks.sinks import Sinks, needed_by
from hub.sinks.stdout import Printer
from hub.socketfile import SocketFile
from hub.sources.shown import Shown
from hub.sources.sources import SourceList, Sources
from hub.sources.spool import SpoolSource
from hub.sources.table import make as make_source
from hub.web.pages import Pages
from hub.web.permanent import CurrentPage, PermanentPage

STOP_GRACE_S = 1.0
"""How long the parts with this `grace_s` have at a stop, even if producers have used up `stop_timeout`."""
log = get_logger("mpsr.service")


class Service:
    """
    Run a hub until it is stopped.

    *print_batch* is called on a thread with each committed batch. *load* reads the configuration again.
    """

    def __init__(
        self,
        config: Config,
        *,
        print_batch: Callable[[Batch | Gap], None] | None = None,
        load: Callable[[], LoadedConfig] | None = None,
    ) -> None:
        self._config = config
        self._print_batch = print_batch
        self._load = load or (lambda: LoadedConfig(config, {}, None))
        self._stopping = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._is_ready = asyncio.Event()

    async def run(self) -> None:
        """
        Start, serve until SIGTERM, SIGINT or `stop`, and stop gracefully.

        Raises the errors of hub.errors, and whatever ended a part.
        """
        config = self._config
        notifier = Notifier.from_environment()
        made = inherited_sockets().get(SOCKET_NAME)
        _raise_descriptor_limit()
        with signals.handled(
            stop=self.stop, reload=self._hung_up.set
        ):  # around the journal too: its recovery and its seal are not interrupted
            journal = await Journal.open(
                config.journal,
                retain_bytes=config.journal_size,
                retain_s=config.retention.longest_s,
                seal_s=config.retention.seal_s,
                durability=config.durability,
                needed_by=needed_by(config.all_readers),
            )
            try:
                if not self._stopping.is_set():
                    await self._listen(made, journal, notifier)
            finally:
                await journal.close()
                notifier.close()
        log.info("hub.stopped", last_sequence=journal.last_sequence)

    def stop(self) -> None:
        """Request a graceful stop."""
        self._stopping.set()

    async def _listen(self, made: socket.socket | None, journal: Journal, notifier: Notifier) -> None:
        """Serve the clients of the socket, *made* by another process or bound here, until a stop is requested."""
        events = Events(RIGHT_OF_EVENT)
        events.begin()
        endpoint = self._endpoint(made, events)
        try:
            await self._serve(endpoint, journal, notifier, events)
        finally:
            await endpoint.stop(timeout=0)
            endpoint.close()

    def _endpoint(self, made: socket.socket | None, events: Events) -> Endpoint:
        config = self._config
        if made is not None:
            socket_file = SocketFile.adopt(made)
        else:
            socket_file = SocketFile.bind(config.socket, mode=config.mode, group=config.group)
        endpoint = Endpoint(
            socket_file,
            access=Access(config.rules, methods=RIGHT_OF, grants=config.grants),
            losses=Losses(on_loss=functools.partial(_emit_loss, events)),
            connections_max=config.connections_max,
            inbox_bytes_max=config.inbox_size,
            frame_bytes_max=config.frame_bytes_max,
        )
        endpoint.limits.change([table.limit for table in config.limits])
        return endpoint

    async def _serve(self, endpoint: Endpoint, journal: Journal, notifier: Notifier, events: Events) -> None:
        """Run the parts until a stop is requested."""
        if missing := journal.recovered.missing:
            endpoint.metrics.losses += missing
            endpoint.losses.note(Loss("missing at the end of the journal", missing), UNKNOWN_PEER)
        spools = SpoolSource.beside(endpoint)
        listed, sinks = SourceList(), Sinks(endpoint, journal, self._config.all_readers, make_runner=make_runner)
        upkeep = Upkeep(journal, lambda: reloader.config.retention)
        figures = Figures(endpoint, journal, sources=listed, sinks=sinks, tags=lambda: upkeep.tags)
        readings = Readings()
        shown = Shown(journal, readings, stats=figures.stats, is_stopping=self._stopping.is_set)
        make = functools.partial(make_source, shown=shown)
        sources = Sources(endpoint, self._config.all_sources, listed, make_source=make)
        reloader = Reloader(
            self._config,
            self._load,
            endpoint,
            journal,
            follow_socket=spools.follow_socket,
            follow_sources=lambda config: sources.change(config.all_sources),
            follow_sinks=lambda config: sinks.change(config.all_readers),
            follow_web=lambda config: page.change(page_of(config)),
            check_sinks=check_readers,
            emit=events.emit,
        )
        reload = functools.partial(_reload, reloader, notifier)
        pages = Pages(endpoint, shown, lambda: commands.table)
        commands = Commands(
            endpoint,
            journal,
            reload,
            figures=figures,
            readings=readings,
            sources=listed,
            sinks=sinks,
            alerts=Alerts(sinks),
            events=events,
            more={
                "alert_dry_run": ForCaller(DryRun(Looking(journal, readings)).alert_dry_run, streams=True),
                "web": ForCaller(pages.open, streams=True),
                "config": lambda request, peer: in_force(reloader.config),
            },
        )

        def page_of(config: Config) -> PermanentPage | None:
            if (web := config.web) is None:
                return None
            given = web.address, web.token_file, endpoint, shown, commands.table
            return PermanentPage(*given, names=web.hosts, uid=web.user)

        page = CurrentPage(page_of(self._config))

        async def until_stopped() -> None:
            _log_start(endpoint, journal)
            notifier.ready()
            self._is_ready.set()
            await self._stopping.wait()

        def stop_timeout() -> float:
            notifier.stopping()
            log.info("hub.stopping", connections=endpoint.connections)
            events.emit("hub.stopping", {"stop_timeout_s": float(reloader.config.stop_timeout)})
            endpoint.limits.change(())  # what was read is stored: a client that waits for a limit would be cut off
            return reloader.config.stop_timeout

        parts = self._parts(endpoint, journal, notifier, reloader, (spools, sources, sinks, commands, upkeep))
        parts.insert([part.name for part in parts].index("socket"), Part("web", page.run, stop=page.stop))
        try:
            await run_parts(parts, until_stopped, stop_timeout=stop_timeout)
        finally:
            readings.close()

    def _parts(
        self,
        endpoint: Endpoint,
        journal: Journal,
        notifier: Notifier,
        reloader: Reloader,
        others: tuple[SpoolSource, Sources, Sinks, Commands, Upkeep],
    ) -> list[Part]:
        """Return the parts in the order of the start. *others* are among the parts, too."""
        spools, sources, sinks, commands, upkeep = others
        watchdog = Watchdog(notifier.watchdog, notifier.watchdog_s)
        receiver = Receiver(endpoint.inbox, journal, endpoint.metrics, watch=watchdog, emit=commands.events.emit)
        reload = functools.partial(_reload, reloader, notifier)
        printing = []
        if self._print_batch is not None:
            printer = Printer(journal, self._print_batch)
            printing.append(Part("print", printer.run, stop=printer.stop, grace_s=STOP_GRACE_S))
        return [
            Part("watchdog", lambda: self._when_ready(watchdog.run)),
            Part("guard", lambda: housekeeping.guard(journal), is_vital=True),
            Part("expiry", lambda: housekeeping.expire(journal, reloader)),
            Part("upkeep", lambda: self._when_ready(upkeep.run)),
            Part("garbage", lambda: self._when_ready(FullCollections(lambda: endpoint.connections).run)),
            Part("status", lambda: self._when_ready(lambda: housekeeping.report(endpoint, journal, notifier))),
            *printing,
            Part("sinks", sinks.run, stop=sinks.stop, grace_s=STOP_GRACE_S),
            Part("receiver", receiver.run, stop=receiver.stop, grace_s=STOP_GRACE_S, is_vital=True),
            Part("spools", spools.run, ready=lambda: self._unless_stopping(spools.first_look)),
            Part("sources", sources.run, ready=sources.ready, stop=sources.stop, grace_s=STOP_GRACE_S),
            Part("socket", lambda: endpoint.run(commands.table), stop=lambda timeout: _stop(endpoint, timeout)),
            Part("path", lambda: housekeeping.keep_path(endpoint, reloader)),
            Part("reload", lambda: self._reload_after_hangups(reload)),
        ]

    async def _unless_stopping(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await *wait*, at most until a stop is requested."""
        waiting, stopping = asyncio.create_task(wait()), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _when_ready(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* after systemd was notified that the hub is ready: it expects nothing else before."""
        await self._is_ready.wait()
        await work()

    async def _reload_after_hangups(self, reload: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            try:
                await reload()
            except MpsrError:  # it is logged
                pass
            except Exception:
                log.exception("config.unreadable", action="the hub continues with what it has")


async def _reload(reloader: Reloader, notifier: Notifier) -> object:
    """Read the configuration again. Raises the errors of hub.errors, with nothing changed."""
    notifier.reloading()
    try:
        return await reloader.reload()
    finally:
        notifier.ready()


def _log_start(endpoint: Endpoint, journal: Journal) -> None:
    log.info(
        "hub.listening",
        socket=endpoint.path,
        journal=journal.path,
        pid=os.getpid(),
        last_sequence=journal.last_sequence,
        cut_bytes=journal.recovered.cut_bytes,
        missing=journal.recovered.missing,
    )


def _emit_loss(events: Events, row: LossRow) -> None:
    """Emit a loss as an event, with the user that it belongs to. Every text is made valid for JSON."""
    tag, reason, comm = (
        text.encode("utf-8", "backslashreplace").decode()
        for text in (row.tag.decode("utf-8", "replace"), row.reason, row.comm)
    )
    data = {"reason": reason, "count": row.count, "bytes": row.bytes, "tag": tag}
    events.emit("loss", {**data, "uid": row.uid, "pid": row.pid, "comm": comm})


async def _stop(endpoint: Endpoint, timeout: float) -> None:
    late = await endpoint.stop(timeout=timeout)
    if late:
        log.warning("hub.stopped_late", connections=late, timeout_s=round(timeout, 3))


def _raise_descriptor_limit() -> None:
    """Raise the soft limit on descriptors to the hard limit: each connection needs one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS reports "unlimited" but allows 10,240
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
