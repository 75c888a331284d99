"""
The method `web`: opens the page on a port of its own, for the caller and as long as the caller stays.

Always true:
- the port is on loopback, and the kernel chooses it; the token is fresh, and known to the caller alone;
- a page has the rights of the caller who opened it, as they are at each request, and its shares;
- it is closed when its caller leaves: a forgotten page does not stay open.

aiohttp is loaded when the first page is opened: a hub without one does not need it.

Not here: the server (hub.web.pageserver).
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from hub.budget import half_of_rest
from hub.control.params import numbers
from hub.dispatch import AnyCommand
from hub.endpoint import Endpoint
from hub.errors import CommandError
from hub.extras import without_extra
from hub.intake import Intake
from hub.sources.shown import Shown
from hub.wire.jsonrpc import TOO_MANY, Request

PAGES_MAX = 16
"""Pages of all callers at once; a user may have half of what the others leave free."""
TOKEN_BYTES = 24


class Pages:
    """The pages that callers have opened. *commands* returns the methods of the hub, which the page may call."""

    def __init__(self, endpoint: Endpoint, shown: Shown, commands: Callable[[], Mapping[str, AnyCommand]]) -> None:
        self._endpoint = endpoint
        self._shown = shown
        self._commands = commands
        self._open = Counter[int]()  # by uid

    async def open(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, str]]:
        """
        Open the page on a port of this host. The one value has ``url``, and ``address`` and ``token``, which are in it.
        The page is there until the caller ends the stream, or leaves.
        """
        numbers(request)  # there are no parameters
        if fault := without_extra("the page", "http"):
            raise CommandError(fault)
        uid = caller.peer.uid
        if self._open[uid] >= max(half_of_rest(PAGES_MAX, self._open.total() - self._open[uid]), 1):
            raise CommandError(f"uid {uid} already has {self._open[uid]} pages open; close one", code=TOO_MANY)
        self._open[uid] += 1
        server: Any = None
        try:
            module = await asyncio.to_thread(importlib.import_module, "hub.web.pageserver")
            token = secrets.token_urlsafe(TOKEN_BYTES)
            server = module.page_for(caller, token.encode(), self._endpoint, self._shown, self._commands())
            yield {"url": f"http://{server.where}/#token={token}", "address": server.where, "token": token}
            await server.run()
        finally:
            if server is not None:
                server.close()
            self._open[uid] -= 1
