"""
Reloads the configuration of a running hub.

Settings that can change at run time take effect; the others are reported as needing a restart.

Always true:
- an invalid configuration changes nothing and is reported. So is one with a new or changed sink that could not deliver,
  or an alert that could not report;
- a reload drops no connection and no message;
- a setting that needs a restart, or belongs to the socket unit, is named and keeps its value;
- the file and the databases of users and groups, which rules name, are read on a thread: neither delays a client;
- one reload takes place at a time, so that the file read last is the one in force.

Not here: the keys that can change at run time (hub.service.config).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from hub.endpoint import Endpoint
from hub.errors import MpsrError
from hub.journal.journal import Journal
from hub.log import get_logger, set_level
from hub.service.config import Config, changes
from hub.service.preflight import check_web
from hub.service.settings import LoadedConfig
from hub.sinks.kinds import SinkTable

_OF_SOCKET = ("mode", "group")
"""Settings of the socket's file. An inherited socket has those of its socket unit."""
log = get_logger("mpsr.reload")


class Reloader:
    """
    Holds the configuration in force. *load* reads the configuration again.

    *emit* sends an event to its subscribers.

    *follow_socket* gives the spool folder the permissions that the socket has now. *follow_sources*,
    *follow_sinks* and *follow_web* run the sources, the sinks and alerts, and the page of a configuration, and no
    others. *check_sinks*, which is
    called on a thread, raises MpsrError for a sink that could not deliver, or an alert that could not report.
    """

    def __init__(  # noqa: PLR0913  all but four by name
        self,
        config: Config,
        load: Callable[[], LoadedConfig],
        endpoint: Endpoint,
        journal: Journal,
        *,
        follow_socket: Callable[[], Awaitable[None]],
        follow_sources: Callable[[Config], Awaitable[None]],
        follow_sinks: Callable[[Config], Awaitable[None]],
        follow_web: Callable[[Config], Awaitable[None]],
        check_sinks: Callable[[Sequence[SinkTable]], None],
        emit: Callable[[str, object], None],
    ) -> None:
        self.config = config
        self._load = load
        self._endpoint = endpoint
        self._journal = journal
        self._follow_socket = follow_socket
        self._follow_sources = follow_sources
        self._follow_sinks = follow_sinks
        self._follow_web = follow_web
        self._check_sinks = check_sinks
        self._emit = emit
        self._reloading = asyncio.Lock()

    async def reload(self) -> dict[str, Any]:
        """
        Return what has changed, what needs a restart, and the file; also what only the socket unit can change, if
        anything. Raises MpsrError, with nothing changed.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> dict[str, Any]:
        old = self.config
        try:
            settings = await asyncio.to_thread(self._load)
            changed, restart = changes(old, settings.config)
            # One that has failed since it was made does not keep the others from being changed.
            fresh = [table for table in settings.config.all_readers if table not in old.all_readers]
            await asyncio.to_thread(self._check_sinks, fresh)
            if settings.config.web != old.web:
                await asyncio.to_thread(check_web, settings.config)
            of_unit = [name for name in changed if name in _OF_SOCKET and self._endpoint.is_inherited]
            changed = [name for name in changed if name not in of_unit]
            self._apply(msgspec.structs.replace(old, **{name: getattr(settings.config, name) for name in changed}))
        except MpsrError as error:
            log.error("config.invalid", error=str(error), action="nothing has changed")
            raise
        await self._follow(old)
        result = {"file": settings.file, "changed": changed, "needs_restart": restart}
        if of_unit:
            result["set_by_socket_unit"] = of_unit
        log.info("config.reloaded", **result)
        self._emit("config.reloaded", result)
        return result

    def _apply(self, new: Config) -> None:
        """
        Put *new* into force. Raises MpsrError, with nothing changed: the steps that can fail come first. No step waits.
        """
        if _permissions(new) != _permissions(self.config):
            self._endpoint.permit(new.mode, new.group)
        self._journal.retain(new.journal_size, new.retention.longest_s, new.retention.seal_s)
        self._endpoint.limit(connections_max=new.connections_max, frame_bytes_max=new.frame_bytes_max)
        self._endpoint.access.change(new.rules, new.grants)
        if new.limits != self.config.limits:  # else all buckets would begin full again
            self._endpoint.limits.change([table.limit for table in new.limits])
        set_level(logging.getLevelNamesMapping()[new.log_level.upper()])
        self.config = new

    async def _follow(self, old: Config) -> None:
        """Do what follows from the changes since *old*, and cannot undo them."""
        if _permissions(old) != _permissions(self.config):
            await self._follow_socket()
        if old.all_sources != self.config.all_sources:
            await self._follow_sources(self.config)
        if old.all_readers != self.config.all_readers:
            await self._follow_sinks(self.config)
        if old.web != self.config.web:
            await self._follow_web(self.config)
        if (old.journal_size, old.retention) != (self.config.journal_size, self.config.retention):
            try:
                await self._journal.expire()
            except MpsrError as error:  # the next segment that is begun expires them
                log.error("journal.unavailable", error=str(error))


def _permissions(config: Config) -> tuple[object, ...]:
    return tuple(getattr(config, name) for name in _OF_SOCKET)
