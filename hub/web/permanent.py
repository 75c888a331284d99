"""
The page that the configuration opens, as long as the hub runs: the table ``[web]``.

Always true:
- nobody gets anything of the hub without the token. One that is renewed is in force within a second; a file that cannot
  be used is logged, and the former token stays in force;
- the page has the rights of one user of this host. It reads: methods that control the hub cannot be called;
- a fault is one line in the log, and another try each `RETRY_S`; the hub goes on.

aiohttp is loaded when the page is opened.

Not here: the server (hub.web.pageserver), pages of callers (hub.web.pages).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pwd
from collections.abc import Collection, Mapping
from typing import Any

from hub.access import Gate
from hub.address import Address
from hub.dispatch import AnyCommand
from hub.endpoint import Endpoint
from hub.errors import MpsrError, SourceError
from hub.extras import without_extra
from hub.intake import NO_LIMITS
from hub.log import get_logger
from hub.message import Peer
from hub.secretfile import Unusable, read_secret, stamp_of
from hub.sources.shown import Shown
from hub.waiting import until_set

RETRY_S = 1.0
CHANGE_S = 2.0
"""How long the requests to a page that is replaced may take."""
SHOWN = frozenset(("config",))
"""Methods that need the right to control the hub, and only show something."""
log = get_logger("mpsr.web")


class PermanentPage:
    """
    Serves the page at *address*, for those that know the token in the file *token_file*, with the rights of the user
    *uid* (None: the hub's own). *names* are accepted names of the host, and *commands* the methods of the hub.
    """

    def __init__(
        self,
        address: Address,
        token_file: str,
        endpoint: Endpoint,
        shown: Shown,
        commands: Mapping[str, AnyCommand],
        *,
        names: Collection[str] = (),
        uid: int | None = None,
    ) -> None:
        self._address = address
        self._token_file = token_file
        self._endpoint = endpoint
        self._shown = shown
        rights = endpoint.access.methods
        self._commands = {
            name: command
            for name, command in commands.items()
            if name in SHOWN or rights.get(name) not in ("control", "send")
        }
        self._names = names
        self._uid = uid
        self._stamp: tuple[int, ...] = ()
        self._token = b""
        self._server: Any = None
        self._stopping = asyncio.Event()
        self._fault = ""

    @property
    def where(self) -> str:
        """The address, with the port that the kernel has chosen if it was 0; empty while it is not open."""
        return "" if self._server is None else str(self._server.where)

    async def run(self) -> None:
        """Serve until `stop` is called."""
        while not self._stopping.is_set():
            try:
                await self._serve()
            except (MpsrError, OSError) as error:
                if str(error) != self._fault:  # one line, however often it is tried
                    self._fault = str(error)
                    log.error("web.failed", address=self._address, error=self._fault, action="tried again each second")
            await until_set(self._stopping, RETRY_S)

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when all requests are answered, at most *timeout* seconds later."""
        self._stopping.set()
        if self._server is not None:
            await self._server.stop(timeout)

    async def _serve(self) -> None:
        check_page(self._address, self._token_file)
        self._look()
        module = await asyncio.to_thread(importlib.import_module, "hub.web.pageserver")
        peer, groups = await asyncio.to_thread(viewer, self._uid)
        gate = Gate(self._endpoint.access, peer, lambda: groups)
        self._server = module.page_at(
            self._address,
            (lambda: self._token, self._names),
            self._endpoint.admission(peer, gate, limits=NO_LIMITS),
            self._endpoint,
            self._shown,
            self._commands,
            look=self._look,
        )
        try:
            self._fault = ""
            log.info("web.opened", address=self.where)
            await self._server.run()
        finally:
            self._server.close()
            self._server = None

    def _look(self) -> None:
        """Read the token again if its file has changed."""
        if (now := stamp_of(self._token_file)) == self._stamp:
            return
        self._stamp = now
        try:
            self._token = read_secret(self._token_file)
        except Unusable as error:
            log.error("web.failed", address=self._address, error=str(error), action="the former token stays in force")


class CurrentPage:
    """Runs one page after the other: *page*, and those by which it is replaced. None: there is none for now."""

    def __init__(self, page: PermanentPage | None) -> None:
        self._page = page
        self._changed = asyncio.Event()
        self._is_stopping = False

    async def run(self) -> None:
        """Serve until `stop` is called."""
        while not self._is_stopping:
            self._changed.clear()
            if self._page is not None:
                await self._page.run()
            else:
                await self._changed.wait()

    async def change(self, page: PermanentPage | None) -> None:
        """Serve *page* in the place of the one before, which ends. Its clients connect again."""
        former, self._page = self._page, page
        self._changed.set()
        if former is not None:
            await former.stop(CHANGE_S)

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when all requests are answered, at most *timeout* seconds later."""
        self._is_stopping = True
        self._changed.set()
        if self._page is not None:
            await self._page.stop(timeout)


def viewer(uid: int | None) -> tuple[Peer, frozenset[int]]:
    """Return the peer that a page acts for, a user of this host, and the groups of it. Raises SourceError."""
    uid = os.geteuid() if uid is None else uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Peer(os.getpid(), uid, os.getegid(), "web"), frozenset((os.getegid(),))
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Peer(os.getpid(), uid, entry.pw_gid, "web"), frozenset(groups)


def check_page(address: str, token_file: str) -> None:
    """Check that the page could be opened: the library is there, and the token can be used. Raises SourceError."""
    if fault := without_extra("the page", "http"):
        raise SourceError(address, fault)
    try:
        read_secret(token_file)
    except Unusable as error:
        raise SourceError(address, str(error)) from error
