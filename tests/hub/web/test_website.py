"""hub.web.website: every way of the table, and what a refusal looks like."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Rule, Rules
from hub.web.website import ROUTES, Website
from tests.hub.web.serving import BEARER, serving


def test_small_answers(tmp_path: Path) -> None:
    """The index names every way; the status shows the state; no answer names our libraries, or may be kept."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            index = await here.get("/")
            assert all(path.encode() in index.body for path in ROUTES)
            for path in ("/healthz", "/readyz", "/metrics", "/"):
                for method in ("GET", "HEAD"):
                    reply = await here.ask(method, path)
                    assert (reply.status, bool(reply.body)) == (200, method == "GET")
                    assert (reply.headers["Server"], reply.headers["Cache-Control"]) == ("mpsr", "no-store")
            metrics = await here.get("/metrics")
            assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b"mpsr_ready 1" in metrics.body
            here.is_stopping = True
            assert (await here.get("/readyz")).status == 503
            assert (await here.get("/healthz")).status == 200

    asyncio.run(main())


def test_refusals(tmp_path: Path) -> None:
    """What is not there, and what is not allowed, is an error in JSON; no origin is allowed anything."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            reply = await here.get("/nothing")
            assert (reply.status, "GET /" in reply.json["error"]) == (404, True)
            reply = await here.ask("PUT", "/messages")
            assert (reply.status, reply.headers["Allow"]) == (405, "POST, GET")
            reply = await here.ask("OPTIONS", "/messages", headers={"Origin": "http://evil.example"})
            assert reply.status == 405
            assert not [name for name in reply.headers if name.lower().startswith("access-control")]

    asyncio.run(main())


def test_counters_are_for_readers(tmp_path: Path) -> None:
    """A peer that may not call `stats` may not read the counters."""
    access = Access({"read": Rules(deny=(Rule.parse("all"),))})

    async def main() -> None:
        async with serving(tmp_path, access=access) as here:
            assert (await here.get("/metrics")).status == 403
            assert here.endpoint.metrics.refused == 1

    asyncio.run(main())


def test_without_the_token(tmp_path: Path) -> None:
    """At an address, this host may look at the state; everything else needs the token."""

    async def main() -> None:
        async with serving(tmp_path, is_tcp=True) as here:
            reply = await here.get("/")
            assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await here.get("/", **BEARER)).status == 200
            assert (await here.get("/metrics")).status == 200
            assert (await here.get("/metrics", Host="evil.example")).status == 403
            reply = await here.post("/v1/logs", b"", "application/x-protobuf")
            assert (reply.status, reply.body[:2]) == (401, b"\x08\x10")

    asyncio.run(main())


def test_without_otlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub without the extra says what it needs."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            monkeypatch.setattr(here.source._website, "_otlp", None)
            reply = await here.post("/v1/logs", b"", "application/x-protobuf")
            assert (reply.status, "pip install 'mpsr[otlp]'" in reply.json["error"]) == (501, True)

    asyncio.run(main())


def test_a_fault_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """It is one line in the log, and 500; the connection goes on."""

    async def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    async def main() -> None:
        async with serving(tmp_path) as here:
            with monkeypatch.context() as broken:
                broken.setitem(ROUTES["/healthz"], "GET", fail)
                assert (await here.get("/healthz")).status == 500
            assert (await here.get("/healthz")).status == 200

    asyncio.run(main())
    assert "http.failed" in capfd.readouterr().err
    assert Website.__doc__
