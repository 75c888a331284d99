"""
The form of answers, and what becomes of errors while a request is answered.

Always true: a fault of ours in one request is one line in the log and 500 for its client.

Not here: which requests there are (hub.web.website, hub.web.pagesite).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from hub.errors import CommandError, InvalidParams
from hub.log import get_logger
from hub.web.body import Refused
from hub.web.connection import HttpConnection
from hub.web.ingest import retry_after

JSON = "application/json"
log = get_logger("mpsr.sources")


async def answered(
    answer: Awaitable[web.StreamResponse],
    refuse: Callable[[Refused], web.Response],
    connection: HttpConnection,
    path: str,
) -> web.StreamResponse:
    """Return the response that *answer* returns, or the one that *refuse* makes of its error."""
    try:
        return await answer
    except Refused as refused:
        return refuse(refused)
    except InvalidParams as error:
        return refuse(Refused(400, str(error)))
    except CommandError as error:
        return refuse(Refused(429, str(error), retry_s=1.0))
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001  a fault in one request must not affect others
        connection.user.lines.log(log.exception, "http.failed", path=path[:64])
        return refuse(Refused(500, "a fault of the hub, see its log"))


def response(
    body: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response that no cache keeps."""
    return web.Response(
        body=body, content_type=content_type, status=status, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def refusal(
    refused: Refused, methods: Mapping[str, object], *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the response to a refused request, in JSON. *methods* are those that its path takes."""
    body = msgspec.json.encode({"error": refused.reason})
    more = refusal_headers(refused, methods) | dict(headers or {})
    return response(body, JSON, status=refused.status, headers=more)


def refusal_headers(refused: Refused, methods: Mapping[str, object]) -> dict[str, str]:
    """Return the headers that belong to the status of a refusal."""
    headers: dict[str, str] = {}
    if refused.retry_s is not None:
        headers["Retry-After"] = retry_after(refused.retry_s)
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.status == 405:
        headers["Allow"] = ", ".join(methods)
    return headers
