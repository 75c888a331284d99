"""
Reloads the configuration of a running hub. Settings that can change at run time take effect; the others are reported
as needing a restart.

Always true:
- an invalid configuration changes nothing and is reported;
- a reload drops no connection and no message;
- a setting that needs a restart is named, and keeps its value.

Not here: the keys that can change at run time (hub.service.config).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from hub.endpoint import Endpoint
from hub.errors import JournalUnavailable, MpsrError
from hub.journal.journal import Journal
from hub.log import get_logger, set_level
from hub.service.config import Config, changes
from hub.service.settings import LoadedConfig

log = get_logger("mpsr.reload")


class Reloader:
    """
    Holds the configuration in force. *load* reads the configuration again.

    *follow_socket* gives the spool folder the permissions that the socket has now.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], LoadedConfig],
        endpoint: Endpoint,
        journal: Journal,
        *,
        follow_socket: Callable[[], Awaitable[None]],
    ) -> None:
        self.config = config
        self._load = load
        self._endpoint = endpoint
        self._journal = journal
        self._follow_socket = follow_socket

    async def reload(self) -> dict[str, Any]:
        """Return what has changed, what needs a restart, and the file. Raises MpsrError, with nothing changed."""
        try:
            settings = self._load()
            changed, restart = changes(self.config, settings.config)
            await self._apply(settings.config)
        except MpsrError as error:
            log.error("config.invalid", error=str(error), action="nothing has changed")
            raise
        log.info("config.reloaded", file=settings.file, changed=changed, needs_restart=restart)
        return {"file": settings.file, "changed": changed, "needs_restart": restart}

    async def _apply(self, new: Config) -> None:
        old = self.config
        if (old.mode, old.group, old.connections_max) != (new.mode, new.group, new.connections_max):
            self._endpoint.change(mode=new.mode, group=new.group, connections_max=new.connections_max)
            await self._follow_socket()
        self._endpoint.access.change(new.rules)
        set_level(logging.getLevelNamesMapping()[new.log_level.upper()])
        live, _ = changes(old, new)
        self.config = msgspec.structs.replace(old, **{name: getattr(new, name) for name in live})
        if (old.journal_size, old.retain) != (new.journal_size, new.retain):
            await self._journal.retain(new.journal_size, new.retain)
            try:
                await self._journal.expire()
            except JournalUnavailable as error:  # the next segment that is begun expires them
                log.error("journal.unavailable", error=str(error))
