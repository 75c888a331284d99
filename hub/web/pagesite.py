"""
The routes of the page's server.

| request | answer |
|---|---|
| ``GET /``, ``GET /page/FILE`` | the files of the page (hub.web.pagefiles); no token is needed, they hold no message |
| ``GET /rpc`` | the WebSocket (hub.web.rpc) |
| ``GET /messages`` | messages to download, with the token in the header ``Authorization`` (hub.web.reading) |
| ``GET /healthz`` | 200: the event loop lives |

Always true: a request under a foreign name of this host is refused, whatever it asks for.

Not here: who is let in (hub.web.pagedoor), connections (hub.web.connection), listening (hub.web.pageserver).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from hub.dispatch import AnyCommand
from hub.holding import Holding
from hub.intake import Admission, Intake
from hub.sources.shown import Shown
from hub.web.answering import answered, refusal, response
from hub.web.body import Refused
from hub.web.connection import HttpConnection
from hub.web.pagedoor import PageDoor
from hub.web.pagefiles import INDEX, SECURITY_HEADERS, PageFile, page_files
from hub.web.reading import Reader
from hub.web.rpc import Rpc

METHODS = {"GET": None, "HEAD": None}
PAGE = "/page/"
Handler = Callable[["PageSite", web.BaseRequest, HttpConnection], Awaitable[web.StreamResponse]]


class Visit(NamedTuple):
    """What a client with the token gets: the *admission* of the user it acts for, the methods, and the greeting."""

    admission: Admission
    commands: Mapping[str, AnyCommand]
    greeting: Callable[[], Mapping[str, Any]]


class PageSite:
    """
    Answers the requests of one server. *visit* is for those that *door* lets in; *on_token* is called with a connection
    that has shown the token.
    """

    def __init__(
        self, door: PageDoor, visit: Visit, shown: Shown, *, on_token: Callable[[HttpConnection], None]
    ) -> None:
        self._door = door
        self._visit = visit
        self._shown = shown
        self._on_token = on_token

    async def answer(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        """Return the response to *request*."""
        refuse = partial(refusal, methods=METHODS, headers=SECURITY_HEADERS)
        return await answered(self._route(request, connection), refuse, connection, request.path)

    async def _route(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if not self._door.is_own_host(request.headers.get("Host", "")):
            raise Refused(403, "Host must be an address, localhost, or one of the hosts in the table [web]")
        if request.method not in METHODS:
            raise Refused(405, f"only {' and '.join(METHODS)} are allowed here")
        handler = ROUTES.get(request.path)
        if handler is not None:
            return await handler(self, request, connection)
        name = INDEX if request.path == "/" else request.path.removeprefix(PAGE)
        file = page_files().get(name) if request.path == "/" or request.path.startswith(PAGE) else None
        if file is None:
            raise Refused(404, "there is nothing here")
        return _of_file(request, file)

    async def get_rpc(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        headers = request.headers
        if not self._door.is_own_origin(headers.get("Origin"), headers.get("Host", "")):
            raise Refused(403, "this WebSocket is for the hub's own page")
        is_plain = "Sec-WebSocket-Protocol" not in headers and request.method == "GET"
        if not is_plain or not web.WebSocketResponse().can_prepare(request):
            raise Refused(400, "only a WebSocket without subprotocols is accepted here")
        rpc = Rpc(request, connection, self._intake(connection), self._visit.commands)
        return await rpc.serve(self._door, partial(self._greet, connection))

    async def get_messages(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if not self._door.has_token(request.headers.get("Authorization", "")):
            raise Refused(401, "the header Authorization with the token is missing or wrong")
        self._on_token(connection)
        intake = self._intake(connection)
        if not intake.gate.tags:
            intake.refuse("read", 1)
            raise Refused(403, f"uid {intake.peer.uid} may not read messages")
        if request.method == "HEAD":
            return response(b"", "application/x-ndjson")
        reader = Reader(self._shown.journal, self._shown.readings)
        return await reader.send(request, connection, intake, lambda: intake.gate.tags)

    async def get_health(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        return response(b"ok\n", "text/plain")

    def _greet(self, connection: HttpConnection) -> Mapping[str, Any]:
        """Return the answer to the token."""
        self._on_token(connection)
        return self._visit.greeting()

    def _intake(self, connection: HttpConnection) -> Intake:
        """Return the intake of the user that the page belongs to. The connection itself is at its host's expense."""
        admission = self._visit.admission
        return Intake(admission, holding=Holding(admission.user.account, connection.abort))


def _of_file(request: web.BaseRequest, file: PageFile) -> web.Response:
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-cache", "ETag": file.etag}
    if request.headers.get("If-None-Match") == file.etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.data, headers={**headers, "Content-Type": file.kind})


ROUTES: Mapping[str, Handler] = {
    "/rpc": PageSite.get_rpc,
    "/messages": PageSite.get_messages,
    "/healthz": PageSite.get_health,
}
