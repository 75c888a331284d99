"""hub.web.pagesite: which requests are answered, and how."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from hub.web.pagefiles import SECURITY_HEADERS, page_files
from tests.hub.clients import run_in_time
from tests.hub.control.journals import batch, grant
from tests.hub.web.opened import BEARER, OTHER, opened


def test_files(tmp_path: Path) -> None:
    """The page and its files need no token, and come with the policy; a browser that has one gets no second copy."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            status, headers, body = await here.get("/")
            file = page_files()["index.html"]
            assert (status, body, headers["Content-Type"]) == (200, file.data, "text/html; charset=utf-8")
            assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
            assert "script-src 'self'" in headers["Content-Security-Policy"]
            for name, each in page_files().items():
                assert (await here.get(f"/page/{name}"))[2] == each.data
            status, _, body = await here.get("/", If_None_Match=headers["ETag"])
            assert (status, body) == (304, b"")
            status, headers, body = await here.get("/", "HEAD")
            assert (status, headers["Content-Length"], body) == (200, str(len(file.data)), b"")
            assert (await here.get("/healthz"))[2] == b"ok\n"

    run_in_time(main())


@pytest.mark.parametrize(
    ("path", "method", "headers", "status", "words"),
    [
        ("/page/../pagesite.py", "GET", {}, 404, "nothing here"),
        ("/page/%2e%2e/pagesite.py", "GET", {}, 404, "nothing here"),
        ("/page/", "GET", {}, 404, "nothing here"),
        ("/index.html", "GET", {}, 404, "nothing here"),
        ("/", "POST", {}, 405, "only GET and HEAD"),
        ("/", "GET", {"Host": "evil.example.org"}, 403, "Host must be"),
        ("/messages", "GET", {}, 401, "Authorization"),
        ("/messages", "GET", {"Authorization": "Bearer x"}, 401, "Authorization"),
        ("/messages?nonsense=1", "GET", BEARER, 400, "no parameter"),
        ("/rpc", "GET", {}, 400, "WebSocket"),
        ("/rpc", "GET", {"Origin": "http://evil.example.org"}, 403, "own page"),
    ],
)
def test_refusals(tmp_path: Path, path: str, method: str, headers: dict[str, str], status: int, words: str) -> None:
    """What is not for this client, or not there, is refused with the reason, and never with the token."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            got, _, body = await here.get(path, method, **headers)
            assert (got, words in json.loads(body)["error"]) == (status, True)

    run_in_time(main())


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example.org"}, {"Sec-WebSocket-Protocol": "x"}])
def test_sockets_that_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    """A WebSocket of another origin, or with a subprotocol, is not opened."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await here.client.ws_connect(f"{here.base}/rpc", headers=headers)
            here.client.cookie_jar.clear()
            async with here.client.ws_connect(f"{here.base}/rpc", headers={"Origin": here.base}):
                pass

    run_in_time(main())


def test_downloads(tmp_path: Path) -> None:
    """Messages are downloaded with the token, as far as the user of the page may read them."""

    async def main() -> None:
        stored = batch("app.web", {"n": 1}), batch("secret", {"n": 2})
        async with opened(tmp_path, *stored, peer=OTHER, grants=(grant("uid:4321", "app.*"),)) as here:
            status, headers, body = await here.get("/messages", **BEARER)
            assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
            assert [json.loads(line)["record"] for line in body.splitlines()] == [{"n": 1}]
            assert (await here.get("/messages", "HEAD", **BEARER))[0] == 200
            here.access.change({})
            status, _, body = await here.get("/messages", **BEARER)
            assert (status, b"may not read" in body) == (403, True)

    run_in_time(main())
