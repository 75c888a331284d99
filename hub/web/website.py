"""
The routes of the HTTP server.

| request | answer |
|---|---|
| ``POST /messages`` | stores the messages of a body (hub.web.ingest): ``{"stored": N}`` |
| ``POST /v1/logs`` | the same for OpenTelemetry's protocol (hub.wire.otlp) |
| ``GET /messages`` | messages, as lines of JSON or events (hub.web.reading) |
| ``GET /metrics`` | the counters (hub.web.figures) |
| ``GET /healthz`` | 200: the event loop lives |
| ``GET /readyz`` | 200: the last commit worked, and the hub is not stopping; else 503 |
| ``GET /`` | this list |

Not here: the form of answers and refusals (hub.web.answering), the page (hub.web.pagesite).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import ModuleType

import msgspec
from aiohttp import web

from hub.endpoint import Endpoint
from hub.extras import needs_extra
from hub.sources.shown import Shown
from hub.web.answering import JSON, answered, refusal, refusal_headers, response
from hub.web.body import Refused
from hub.web.connection import HttpConnection
from hub.web.door import Door
from hub.web.figures import CONTENT_TYPE, exposition
from hub.web.ingest import Ingest, stopping, tag_of
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
PROTOBUF = "application/x-protobuf"
_STATUS_CODES = {401: 16, 403: 7, 408: 4, 429: 8, 500: 13, 501: 12, 503: 14}
"""The google.rpc.Code for an HTTP status; for any other status it is INVALID_ARGUMENT."""
_INVALID_ARGUMENT = 3
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
        refuse = partial(self._refusal, request)
        return await answered(self._route(request, connection), refuse, connection, request.path)

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
        if request.path == "/v1/logs" and self._otlp is not None:
            is_json = request.content_type == JSON
            code = _STATUS_CODES.get(refused.status, _INVALID_ARGUMENT)
            body = self._otlp.encode_status(code, refused.reason, is_json=is_json)
            headers = refusal_headers(refused, ROUTES["/v1/logs"])
            return response(body, JSON if is_json else PROTOBUF, status=refused.status, headers=headers)
        return refusal(refused, ROUTES.get(request.path, {}))

    async def post_messages(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        tag = tag_of(request.query.get("tag"), self._tag)
        outcome = await self._ingest.store(request, connection, format_of(request.content_type), tag)
        reply: dict[str, object] = {"stored": outcome.stored}
        if outcome.lost:
            reply |= {"lost": outcome.lost, "reason": outcome.reason}
        return response(msgspec.json.encode(reply), JSON)

    async def post_logs(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if self._otlp is None:
            raise Refused(501, needs_extra("OTLP", "otlp"))
        if request.content_type not in (PROTOBUF, JSON):
            raise Refused(415, f"OTLP is {PROTOBUF} or {JSON}")
        is_json = request.content_type == JSON
        tag = tag_of(request.query.get("tag"), self._tag)
        format_ = self._otlp.JSON if is_json else self._otlp.PROTOBUF
        outcome = await self._ingest.store(request, connection, format_, tag)
        body = self._otlp.encode_response(outcome.lost, outcome.reason, is_json=is_json)
        return response(body, JSON if is_json else PROTOBUF)

    async def get_messages(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if not self._door.tags(connection.intake):
            connection.intake.refuse("read", 1)
            raise Refused(403, f"uid {connection.peer.uid} may not read messages")
        if request.method == "HEAD":
            return web.Response(headers={"Cache-Control": "no-store"})
        reader = Reader(self._shown.journal, self._shown.readings)
        intake = connection.intake
        return await reader.send(request, connection, intake, lambda: self._door.tags(intake))

    async def get_metrics(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if not self._door.may_see_figures(connection.intake):
            connection.intake.refuse("read", 1)
            raise Refused(403, f"uid {connection.peer.uid} may not read the counters")
        text = exposition(self._shown.stats(), is_ready=self._shown.is_ready)
        answer = response(text.encode(), "text/plain")
        answer.headers["Content-Type"] = CONTENT_TYPE
        return answer

    async def get_health(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        return response(b"ok\n", "text/plain")

    async def get_readiness(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        if self._shown.is_stopping() or connection.is_stopping:
            raise stopping()
        if not self._shown.is_ready:
            raise Refused(503, "the last commit failed: see the hub's log", retry_s=1.0)
        return response(b"ready\n", "text/plain")

    async def get_index(self, request: web.BaseRequest, connection: HttpConnection) -> web.StreamResponse:
        return response(INDEX.encode(), "text/plain")


ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/messages": {"POST": Website.post_messages, "GET": Website.get_messages},
    "/v1/logs": {"POST": Website.post_logs},
    "/metrics": {"GET": Website.get_metrics},
    "/healthz": {"GET": Website.get_health},
    "/readyz": {"GET": Website.get_readiness},
    "/": {"GET": Website.get_index},
}
