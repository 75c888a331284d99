"""hub.web.pages: a page belongs to the caller who has opened it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from hub.errors import CommandError, InvalidParams
from hub.web import pages
from hub.wire.jsonrpc import TOO_MANY, Request
from tests.hub.clients import run_in_time
from tests.hub.web.opened import OTHER, OWN, Opened, opened


def page(here: Opened, peer: Any = OWN, **params: Any) -> AsyncIterator[dict[str, str]]:
    """Return the stream of the method for a caller."""
    return here.pages.open(Request("web", params, 1), here.intake(peer))


async def closed(stream: Any, waiting: asyncio.Task[Any] | None = None) -> None:
    """End a stream as hub.dispatch does."""
    if waiting is not None:
        waiting.cancel()
        await asyncio.wait((waiting,))
    await stream.aclose()


def test_a_page_ends_with_its_caller(tmp_path: Path) -> None:
    """The page is there while the stream runs, whether something is waiting for its end or not."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            for waits in (True, False):
                stream = page(here)
                there = await anext(stream)
                assert there["url"] == f"http://{there['address']}/#token={there['token']}"
                assert there["address"].startswith("127.0.0.1:")
                waiting = asyncio.create_task(cast(Any, anext(stream))) if waits else None
                if waits:
                    async with here.client.get(f"http://{there['address']}/healthz") as response:
                        assert response.status == 200
                await closed(stream, waiting)
                with pytest.raises(aiohttp.ClientConnectorError):
                    await here.client.get(f"http://{there['address']}/healthz")

    run_in_time(main())


def test_tokens_are_fresh(tmp_path: Path) -> None:
    """Each page has a token and a port of its own; the token of one does not open another."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            streams = [page(here), page(here)]
            one, two = [await anext(stream) for stream in streams]
            assert one["token"] != two["token"]
            assert one["address"] != two["address"]
            waiting = asyncio.create_task(cast(Any, anext(streams[0])))
            headers = {"Authorization": f"Bearer {two['token']}"}
            async with here.client.get(f"http://{one['address']}/messages", headers=headers) as response:
                assert response.status == 401
            await closed(streams[0], waiting)
            await closed(streams[1])

    run_in_time(main())


def test_limits_and_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has a share of the pages; a hub without the library, and wrong parameters, are errors that say so."""
    monkeypatch.setattr(pages, "PAGES_MAX", 4)

    async def main() -> None:
        async with opened(tmp_path) as here:
            streams = [page(here), page(here), page(here, OTHER)]
            for stream in streams:
                await anext(stream)
            with pytest.raises(CommandError, match="already has 2 pages open") as much:
                await anext(page(here))
            assert much.value.code == TOO_MANY
            await closed(streams.pop())
            await closed(streams.pop())
            await anext(stream := page(here))
            streams.append(stream)
            with pytest.raises(InvalidParams, match="no parameter 'port'"):
                await anext(page(here, port=5))
            with monkeypatch.context() as patch:
                patch.setattr(importlib.util, "find_spec", lambda name: None)
                with pytest.raises(CommandError, match=r"pip install 'mpsr\[http\]'"):
                    await anext(page(here))
            for stream in streams:
                await closed(stream)

    run_in_time(main())
