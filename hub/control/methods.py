"""
The commands of a running hub: a table of JSON-RPC methods.

Always true: a command answers from memory and does not wait for the disk, except `reload`, `query` and `tail`.

Not here: the parameters of a request (hub.control.params), the format of requests and replies (hub.wire.jsonrpc).
"""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from hub.access import MethodRight, Right
from hub.connection import Connection
from hub.control.events import Events
from hub.control.figures import Figures
from hub.control.looking import Looking
from hub.control.messages import Messages
from hub.control.params import numbers, place_of, texts
from hub.control.reading import Readings
from hub.control.sql import Sql
from hub.control.typed import typed
from hub.dispatch import AnyCommand, ForCaller
from hub.endpoint import Endpoint
from hub.errors import CommandError, InvalidParams, MpsrError
from hub.journal.journal import Journal
from hub.losses import LossRow
from hub.message import Peer
from hub.quantities import Duration
from hub.query.rendering import rfc3339
from hub.wire.claim import has_places, prefix_of
from hub.wire.jsonrpc import Request

RIGHT_OF: Mapping[str, MethodRight] = {
    "alerts": "read",
    "alert_dry_run": "messages",
    "alert_silence": "control",
    "alert_test": "control",
    "imports": "send",
    "stats": "read",
    "peers": "read",
    "losses": "read",
    "sinks": "read",
    "sources": "read",
    "sink_pause": "control",
    "sink_resume": "control",
    "sink_rewind": "control",
    "reload": "control",
    "query": "messages",
    "tail": "messages",
    "timeline": "messages",
    "counts": "messages",
    "chart": "messages",
    "fields": "messages",
    "sql": "messages",
    "web": "control",
    "config": "control",
}
"""The right that each command requires. `ping` and `subscribe` require only access to the socket."""
RIGHT_OF_EVENT: Mapping[str, Right] = {
    "loss": "read",
    "journal.full": "read",
    "journal.available": "read",
    "config.reloaded": "read",
}
"""The right that each event of the service requires, as the methods do that report the same."""
SILENCE_S_MAX = 366 * 86_400
"""A longer silence is taken for a mistake: who wants one removes the alert."""
ROWS, ROWS_MAX = 100, 300
"""
The default number of rows of `peers` and `losses`, and the maximum, which also holds for `imports`.
"""


class Configured(Protocol):
    """The sources that are configured."""

    def stats(self) -> list[dict[str, Any]]:
        """Return the state of each, and what it has accepted."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the same, the state as one word, and the last fault."""


class Outgoing(Protocol):
    """The sinks that are configured."""

    def stats(self) -> list[dict[str, Any]]:
        """Return the state of each, and what it has delivered."""

    async def pause(self, name: str, *, is_paused: bool) -> None:
        """Let a sink deliver nothing, or go on. Raises CommandError."""

    async def rewind(self, name: str, to: int | None, since: int | None) -> int:
        """Let a sink go on at a sequence, or at a time; return the sequence. Raises CommandError."""


class Watching(Protocol):
    """The alerts that are configured."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the state of each."""

    async def silence(self, name: str, duration_s: float) -> str | None:
        """Let an alert be quiet for some time; return until when. Raises CommandError."""

    async def test(self, name: str) -> str:
        """Let an alert report a test; return its id. Raises CommandError."""


class _Nothing:
    """A hub without any source beside its socket, without sinks and without alerts."""

    def stats(self) -> list[dict[str, Any]]:
        return []

    rows = stats

    async def silence(self, name: str, duration_s: float) -> str | None:
        raise CommandError(f"there is no alert {name!r} (there are: none)")

    async def test(self, name: str) -> str:
        raise CommandError(f"there is no alert {name!r} (there are: none)")

    async def pause(self, name: str, *, is_paused: bool) -> None:
        raise CommandError(f"there is no sink {name!r} (there are: none)")

    async def rewind(self, name: str, to: int | None, since: int | None) -> int:
        raise CommandError(f"there is no sink {name!r} (there are: none)")


class Commands:
    """
    The commands that report on *endpoint* and *journal*, and their table. *reload* reads the configuration again.
    *figures* are those of the hub, and *readings* is the thread that reads the journal. *sources*, *sinks* and
    *alerts* are those that are configured. *events* are those that can be subscribed to. *more* are further commands.
    """

    def __init__(  # noqa: PLR0913  all but three by name
        self,
        endpoint: Endpoint,
        journal: Journal,
        reload: Callable[[], Awaitable[object]],
        *,
        figures: Figures,
        readings: Readings,
        sources: Configured | None = None,
        sinks: Outgoing | None = None,
        alerts: Watching | None = None,
        events: Events | None = None,
        more: Mapping[str, AnyCommand] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._reload = reload
        self._figures = figures
        self._sources: Configured = _Nothing() if sources is None else sources
        self._sinks: Outgoing = _Nothing() if sinks is None else sinks
        self._alerts: Watching = _Nothing() if alerts is None else alerts
        self.events: Events = events or Events()
        messages, looking = Messages(journal, readings), Looking(journal, readings)
        self.table: Mapping[str, AnyCommand] = {
            "alerts": self.alerts,
            "alert_silence": self.alert_silence,
            "alert_test": self.alert_test,
            "chart": ForCaller(looking.chart, streams=True),
            "counts": ForCaller(looking.counts, streams=True),
            "fields": ForCaller(looking.fields, streams=True),
            "imports": self.imports,
            "losses": self.losses,
            "peers": self.peers,
            "ping": self.ping,
            "query": ForCaller(messages.query),
            "reload": self.reload,
            "sink_pause": self.sink_pause,
            "sink_resume": self.sink_resume,
            "sink_rewind": self.sink_rewind,
            "sinks": self.sinks,
            "sources": self.sources,
            "sql": ForCaller(Sql(journal).sql, streams=True),
            "stats": self.stats,
            "subscribe": typed(self.events.subscribe, "subscribe"),
            "tail": ForCaller(messages.tail, streams=True),
            "timeline": ForCaller(looking.timeline, streams=True),
            **(more or {}),
        }

    def ping(self, request: Request, peer: Peer) -> str:
        """Return ``"pong"``."""
        return "pong"

    def peers(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return the connections to the hub's socket, and what each has sent: those that have sent the most messages
        first. Parameters, all optional: *uid*, *pid*: only theirs; *limit*: how many.
        """
        given = numbers(request, "uid", "pid", "limit")
        found = [each for each in self._endpoint.clients if _is_of(each.peer, given)]
        rows = heapq.nlargest(_limit(given), found, key=lambda each: each.tally.messages)
        now = time.monotonic()
        return {
            "connections": self._endpoint.connections,
            "peers": [_row_of(each, now) for each in rows],
            "left_off": len(found) - len(rows),
        }

    def losses(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return what was lost since the start, by user, reason, tag and command: the latest first. Parameters, all
        optional: *uid*: only of this user; *limit*: how many.
        """
        given = numbers(request, "uid", "limit")
        found = [row for row in self._endpoint.losses.rows() if given.get("uid", row.uid) == row.uid]
        rows = heapq.nlargest(_limit(given), found, key=lambda row: row.last)
        return {
            "losses": self._endpoint.metrics.losses,
            "rows": [_as_json(row) for row in rows],
            "left_off": len(found) - len(rows),
        }

    def imports(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return how far the caller has imported files, ordered by name: ``[name, number, digest]`` of each. Parameters,
        all optional: *prefix*: only names that begin so; *after*: only later ones. ``left_off``: how many more there
        are; ``frame_size``: of the largest frame that is accepted. A caller that the kernel does not identify gets an
        error: its chunks would be stored each time.
        """
        if not has_places(peer):
            raise CommandError("this system does not identify its users, so nothing is known about them")
        given = texts(request, "prefix", "after")
        prefix, after = given.get("prefix", "").encode(), given.get("after", "").encode()
        own = prefix_of(peer.uid)
        found = [
            (position.name.removeprefix(own), position.number, position.detail)
            for position in self._journal.positions(own + prefix)
        ]
        rows = sorted(row for row in found if row[0] > after)
        shown = [[name.decode("utf-8", "replace"), number, digest.hex()] for name, number, digest in rows[:ROWS_MAX]]
        frame_size = int(self._endpoint.frame_bytes_max)
        return {"imports": shown, "left_off": len(rows) - len(shown), "frame_size": frame_size}

    async def reload(self, request: Request, peer: Peer) -> object:
        """Read the configuration again. Return what has changed and what needs a restart."""
        try:
            return await self._reload()
        except MpsrError as error:  # a fault of the file, not of the hub
            raise CommandError(str(error)) from error

    def sources(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return the hub's socket and each source that is configured: what each has accepted since the start, its state
        (``open``, ``failed`` or ``closed``), and its last fault.
        """
        numbers(request)
        tally = self._endpoint.tally
        socket = {"type": "socket", "path": self._endpoint.path, "state": "open", "lag": None}
        counted = {"messages": tally.messages, "bytes": tally.bytes, "losses": tally.losses, "last_error": None}
        return {"sources": [socket | counted, *self._sources.rows()]}

    def sinks(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return each sink that is configured: its state (``opening``, ``open``, ``failed``, ``paused`` or ``closed``),
        how far it has delivered, what it has still to deliver, and its last fault.
        """
        numbers(request)
        return {"sinks": self._sinks.stats()}

    async def sink_pause(self, request: Request, peer: Peer) -> None:
        """Let the sink *name* deliver nothing until it is resumed, also after a restart."""
        await self._sinks.pause(_name_in(texts(request, "name")), is_paused=True)

    async def sink_resume(self, request: Request, peer: Peer) -> None:
        """Let the sink *name* go on."""
        await self._sinks.pause(_name_in(texts(request, "name")), is_paused=False)

    async def sink_rewind(self, request: Request, peer: Peer) -> dict[str, int]:
        """
        Let the sink *name* go on with another message, the first one unless *to* is given: a sequence, or a time.
        Return its ``sequence``. What it delivers again is there twice; what it leaves out is not reported as lost.
        """
        params = request.params if isinstance(request.params, dict) else {}
        to = params.get("to")
        name = _name_in(texts(msgspec.structs.replace(request, params={**params, "to": ""}), "name", "to"))
        sequence, since = place_of(to)
        return {"sequence": await self._sinks.rewind(name, sequence, since)}

    def alerts(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return each alert that is configured: its state, what it has counted, when it has fired, until when it is
        silenced, and its last fault.
        """
        numbers(request)
        return {"alerts": self._alerts.rows()}

    async def alert_silence(self, request: Request, peer: Peer) -> dict[str, str | None]:
        """
        Let the alert *name* report nothing for the time *duration* (``2h``), also after a restart; ``0s`` ends a
        silence. Return in ``until`` when it ends.
        """
        given = texts(request, "name", "duration")
        name = _name_in(given, "an alert")
        try:
            duration = Duration.parse(given.get("duration"))
        except ValueError as error:
            raise InvalidParams(f"duration: {error}", param="duration") from error
        if duration > SILENCE_S_MAX:
            raise InvalidParams("duration is more than a year", param="duration")
        return {"until": await self._alerts.silence(name, duration)}

    async def alert_test(self, request: Request, peer: Peer) -> dict[str, str]:
        """Let the alert *name* report a firing that is marked as a test. Return its ``id`` when it is reported."""
        return {"id": await self._alerts.test(_name_in(texts(request, "name"), "an alert"))}

    def stats(self, request: Request, peer: Peer) -> dict[str, Any]:
        """
        Return the counters since the start, and the gauges. Units are bytes and seconds. ``sources`` and ``sinks`` are
        lists of those that are configured. ``tags`` has for each tag its messages, about how many bytes they take, and
        when the first was received (``since``, nanoseconds), as of some minutes ago.
        """
        return self._figures.stats()


def _name_in(given: Mapping[str, str], whose: str = "a sink") -> str:
    """Return the parameter *name*. Raises InvalidParams."""
    if "name" not in given:
        raise InvalidParams(f"name is missing: that of {whose}", param="name")
    return given["name"]


def _limit(given: Mapping[str, int]) -> int:
    return min(given.get("limit", ROWS), ROWS_MAX)


def _is_of(peer: Peer, given: Mapping[str, int]) -> bool:
    return given.get("uid", peer.uid) == peer.uid and given.get("pid", peer.pid) == peer.pid


def _row_of(connection: Connection, now: float) -> dict[str, Any]:
    peer, tally = connection.peer, connection.tally
    row: dict[str, Any] = {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid, "comm": peer.comm}
    row |= {name: value for name, value in (("unit", peer.unit), ("container", peer.container)) if value}
    row |= {"protocol": connection.protocol, "connected_s": round(now - connection.since, 3)}
    return row | {
        "messages": tally.messages,
        "bytes": tally.bytes,
        "losses": tally.losses,
        "requests": connection.requests,
    }


def _as_json(row: LossRow) -> dict[str, Any]:
    times = {"first": rfc3339(row.first), "last": rfc3339(row.last)}
    return {**dataclasses.asdict(row), "tag": row.tag.decode("utf-8", "replace"), **times}
