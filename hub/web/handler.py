"""
aiohttp's side of one connection: with our limits, and without reference cycles.

It parses requests and writes responses.

aiohttp keeps some exceptions, whose tracebacks refer to what keeps them. Such a cycle holds what was parsed last, 100
KiB, until the next full collection (hub.service.garbage): clients that send nonsense, one after the other, would take
gigabytes in between.

Always true: when a connection has ended, it is freed with its last reference.

Not here: what is answered (hub.web.connection).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import StreamReader, http, web
from aiohttp.abc import AbstractStreamWriter

IDLE_S = 30.0
LINGER_S = 2.0
"""How long the rest of a refused body is read, so that its client sees the answer before the connection closes."""
HEADER_BYTES_MAX = 8 << 10
HEADERS_MAX = 64
READ_BYTES = 32 << 10
"""Of a body that is not being read, aiohttp holds twice this many bytes, and one read more, of 64 KiB."""
SERVER = "mpsr"
"""Sent in the place of the versions of our libraries."""

_quiet = logging.Logger("aiohttp")  # it logs each malformed request with a traceback
_quiet.addHandler(logging.NullHandler())


class Handler(web.RequestHandler):
    """Parses what it receives, and sends what *answer* returns for each request."""

    __slots__ = ()

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            web.Server(answer, request_factory=_make_request),  # its own factory would be a circle
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # there is none
            logger=_quiet,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            tcp_keepalive=False,
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        for message, _ in self._messages:  # that are not answered any more
            forget(getattr(message, "exc", None))
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        forget(exc)
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = SERVER
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        forget(kw.get("exc_info"))


def forget(error: BaseException | None) -> None:
    """Free the objects that the traceback of *error* refers to."""
    if error is not None:
        error.__traceback__ = None


def _make_request(
    message: http.RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())
