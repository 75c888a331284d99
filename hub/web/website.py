"""
The routes of the HTTP server, and the form of refusals.

| request | answer |
|---|---|
| ``POST /messages`` | stores the messages of a body (hub.web.ingest): ``{"stored": N}`` |
| ``POST /v1/logs`` | the same for OpenTelemetry's protocol (hub.wire.otlp) |
| ``GET /messages`` | messages, as lines of JSON or events (hub.web.reading) |
| ``GET /metrics`` | the counters (hub.web.figures) |
| ``GET /healthz`` | 200: the event loop lives |
| ``GET /readyz`` | 200: the last commit worked, and the hub is not stopping; else 503 |
| ``GET /`` | this list |

Always true: a fault of ours in one request is one line in the log and 500 for its client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType

import msgspec
from aiohttp import web

from hub.endpoint import Endpoint
from hub.errors import CommandError, InvalidParams
from hub.log import get_logger
from hub.sources.shown import Shown
from hub.web.body import Refused
from hub.web.connection import HttpConnection
from hub.web.door import Door
from hub.web.figures import CONTENT_TYPE, exposition
from hub.web.ingest import Ingest, retry_after, stopping, tag_of
from hub.web.reading import Reader
from hub.wire.bodies import format_of

INDEX = """mpsr: a message hub
POST /messages   lines, NDJSON or a JSON array
POST /v1/logs    OpenTelemetry logs (OTLP/HTTP)
GET  /messages   messages, as NDJSON or server-sent events
GET  /metrics    counters, for Prometheus
GET  /healthz    whether the hub lives
GET  /readyz     whether it stores messages
"""
PROTOBUF, JSON = "application/x-protobuf", "application/json"
_STATUS_CODES = {401: 16, 403: 7, 408: 4, 429: 8, 500: 13, 501: 12, 503: 14}
"""The google.rpc.Code for an HTTP status; for any other status it is INVALID_ARGUMENT."""
_INVALID_ARGUMENT = 3
log = get_logger("mpsr.sources")
Handler = Callable[["Website", web.BaseRequest, HttpConnection], Awaitable[web.StreamResponse]]


class Website:
    """Answers the requests of one source, whose messages have *tag* if they name none. *otlp* is hub.wire.otlp."""

    def __init__(self, endpoint: Endpoint, shown: Shown, door: Door, *, tag: bytes | None, otlp: ModuleType | None):
        self._ingest = Ingest(endpoint)
        self._shown = shown
        self._door = door
        self._tag = tag
        self._otlp = otlp

    async def answer(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        """Return the response to *request*."""
        try:
            return await self._route(request, connection)
        except Refused as refused:
            return self._refusal(request, refused)
        except InvalidParams as error:
            return self._refusal(request, Refused(400, str(error)))
        except CommandError as error:
            return self._refusal(request, Refused(429, str(error), retry_s=1.0))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001  a fault in one request must not affect others
            connection.user.lines.log(log.exception, "http.failed", path=request.path[:64])
            return self._refusal(request, Refused(500, "a fault of the hub, see its log"))

    async def _route(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        refusal = self._door.refusal(
            request.path,
            connection.intake,
            authorization=request.headers.get("Authorization", ""),
            host=request.headers.get("Host", ""),
        )
        if refusal is not None:
            raise Refused(*refusal)
        handlers = ROUTES.get(request.path)
        if handlers is None:
            raise Refused(404, "there is nothing here (GET / lists what there is)")
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise Refused(405, f"{request.path} takes {' and '.join(handlers)}")
        return await handler(self, request, connection)

    def _refusal(self, request: web.BaseRequest, refused: Refused) -> web.Response:
        headers = {"Cache-Control": "no-store"}
        if refused.retry_s is not None:
            headers["Retry-After"] = retry_after(refused.retry_s)
        if refused.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if refused.status == 405:
            headers["Allow"] = ", ".join(ROUTES[request.path])
        if request.path == "/v1/logs" and self._otlp is not None:
            is_json = request.content_type == JSON
            code = _STATUS_CODES.get(refused.status, _INVALID_ARGUMENT)
            body = self._otlp.encode_status(code, refused.reason, is_json=is_json)
            return _response(body, JSON if is_json else PROTOBUF, status=refused.status, headers=headers)
        body = msgspec.json.encode({"error": refused.reason})
        return _response(body, JSON, status=refused.status, headers=headers)

    async def post_messages(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        tag = tag_of(request.query.get("tag"), self._tag)
        outcome = await self._ingest.store(request, connection, format_of(request.content_type), tag)
        reply: dict[str, object] = {"stored": outcome.stored}
        if outcome.lost:
            reply |= {"lost": outcome.lost, "reason": outcome.reason}
        return _response(msgspec.json.encode(reply), JSON)

    async def post_logs(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if self._otlp is None:
            raise Refused(501, "this hub cannot read OTLP: its environment needs `pip install 'mpsr[otlp]'`")
        if request.content_type not in (PROTOBUF, JSON):
            raise Refused(415, f"OTLP is {PROTOBUF} or {JSON}")
        is_json = request.content_type == JSON
        tag = tag_of(request.query.get("tag"), self._tag)
        format_ = self._otlp.JSON if is_json else self._otlp.PROTOBUF
        outcome = await self._ingest.store(request, connection, format_, tag)
        body = self._otlp.encode_response(outcome.lost, outcome.reason, is_json=is_json)
        return _response(body, JSON if is_json else PROTOBUF)

    async def get_messages(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if not self._door.tags(connection.intake):
            connection.intake.refuse("read", 1)
            raise Refused(403, f"uid {connection.peer.uid} may not read messages")
        if request.method == "HEAD":
            return web.Response(headers={"Cache-Control": "no-store"})
        reader = Reader(self._shown.journal, self._shown.readings)
        return await reader.send(request, connection, lambda: self._door.tags(connection.intake))

    async def get_metrics(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if not self._door.may_see_figures(connection.intake):
            connection.intake.refuse("read", 1)
            raise Refused(403, f"uid {connection.peer.uid} may not read the counters")
        text = exposition(self._shown.stats(), is_ready=self._shown.is_ready)
        response = _response(text.encode(), "text/plain")
        response.headers["Content-Type"] = CONTENT_TYPE
        return response

    async def get_health(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        return _response(b"ok\n", "text/plain")

    async def get_readiness(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if self._shown.is_stopping() or connection.is_stopping:
            raise stopping()
        if not self._shown.is_ready:
            raise Refused(503, "the last commit failed: see the hub's log", retry_s=1.0)
        return _response(b"ready\n", "text/plain")

    async def get_index(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        return _response(INDEX.encode(), "text/plain")


def _response(
    body: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=body, content_type=content_type, status=status, headers={"Cache-Control": "no-store", **(headers or {})}
    )


ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/messages": {"POST": Website.post_messages, "GET": Website.get_messages},
    "/v1/logs": {"POST": Website.post_logs},
    "/metrics": {"GET": Website.get_metrics},
    "/healthz": {"GET": Website.get_health},
    "/readyz": {"GET": Website.get_readiness},
    "/": {"GET": Website.get_index},
}
