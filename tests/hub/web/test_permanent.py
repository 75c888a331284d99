"""hub.web.permanent: the page of the table [web]."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.address import Address
from hub.errors import SourceError
from hub.sources import configured
from hub.web import permanent
from hub.web.permanent import CurrentPage, PermanentPage, check_page, viewer
from tests.hub.clients import run_in_time, until
from tests.hub.control.journals import batch
from tests.hub.web.opened import Opened, opened
from tests.support import HubProcess, eventually, free_port


def secret(folder: Path, text: str) -> str:
    """Write a token to a file, and return its path."""
    path = folder / "token"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@contextlib.asynccontextmanager
async def page(here: Opened, token_file: str, **options: Any) -> AsyncIterator[PermanentPage]:
    """Serve the page, and stop it."""
    address = Address("127.0.0.1:0")
    there = PermanentPage(address, token_file, here.endpoint, here.shown, here.commands, **options)
    running = asyncio.create_task(there.run())
    try:
        yield there
        await there.stop(30)
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def status(here: Opened, there: PermanentPage, token: str, host: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} | ({"Host": host} if host else {})
    async with here.client.get(f"http://{there.where}/messages", headers=headers) as response:
        return response.status


def test_a_token_that_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is renewed is in force soon; a file that cannot be used leaves the former one in force."""
    monkeypatch.setattr(configured, "LOOK_S", 0.001)

    async def main() -> None:
        token_file = secret(tmp_path, "one")
        async with opened(tmp_path) as here, page(here, token_file) as there:
            await until(lambda: there.where)
            assert [await status(here, there, token) for token in ("one", "two", "")] == [200, 401, 401]
            secret(tmp_path, "two")
            while await status(here, there, "two") != 200:
                pass
            assert await status(here, there, "one") == 401
            os.unlink(token_file)
            await asyncio.sleep(0.01)
            assert await status(here, there, "two") == 200

    run_in_time(main())


def test_names_and_rights(tmp_path: Path) -> None:
    """A configured name is accepted; the page reads with the rights of its user, and controls nothing."""

    async def main() -> None:
        token_file = secret(tmp_path, "one")
        async with opened(tmp_path, batch("a", {"n": 1})) as here:
            async with page(here, token_file, names=["logs.example.org"]) as there:
                await until(lambda: there.where)
                assert await status(here, there, "one", "logs.example.org") == 200
                assert await status(here, there, "one", "evil.example.org") == 403
                async with here.client.ws_connect(f"http://{there.where}/rpc") as socket:
                    await socket.send_json({"token": "one"})
                    methods = {*json.loads(await socket.receive_str())["hub"]["methods"]}
                    assert {"query", "tail", "stats", "timeline"} <= methods
                    assert methods.isdisjoint({"reload", "sink_pause", "web", "imports"})
            async with page(here, token_file, uid=4321) as there:
                await until(lambda: there.where)
                assert await status(here, there, "one") == 403

    run_in_time(main())


def test_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token or the library the page is tried again, and `--check` says why."""
    monkeypatch.setattr(permanent, "RETRY_S", 0.001)

    async def main() -> None:
        path = str(tmp_path / "token")
        async with opened(tmp_path) as here, page(here, path) as there:
            await until(lambda: there._fault)
            assert (there.where, "No such file" in there._fault) == ("", True)
            secret(tmp_path, "one")
            await until(lambda: there.where)
            assert await status(here, there, "one") == 200

    run_in_time(main())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install 'mpsr\[http\]'"):
        check_page("127.0.0.1:1", str(tmp_path / "token"))


def test_one_page_after_the_other(tmp_path: Path) -> None:
    """A page is replaced at the same address, removed, and opened again; clients of an open page are told."""

    async def main() -> None:
        token_file, other_file = secret(tmp_path, "one"), str(tmp_path / "other")
        (tmp_path / "other").write_text("two")
        (tmp_path / "other").chmod(0o600)
        async with opened(tmp_path) as here:

            def made(address: str, file: str) -> PermanentPage:
                return PermanentPage(Address(address), file, here.endpoint, here.shown, here.commands)

            first = made(f"127.0.0.1:{free_port()}", token_file)
            current = CurrentPage(first)
            running = asyncio.create_task(current.run())
            await until(lambda: first.where)
            where = first.where
            async with here.client.ws_connect(f"http://{where}/rpc") as socket:
                await socket.send_json({"token": "one"})
                await socket.receive_str()
                second = made(where, other_file)
                await current.change(second)
                assert (await socket.receive()).data == 1001
            await until(lambda: second.where)
            assert await status(here, second, "two") == 200
            await current.change(None)
            assert (second.where, running.done()) == ("", False)
            third = made(where, token_file)
            await current.change(third)
            await until(lambda: third.where)
            await current.stop(30)
            await asyncio.wait_for(running, 30)

    run_in_time(main())


def test_viewers() -> None:
    """A user is known by number, whether this host has a name for it or not."""
    own, groups = viewer(None)
    assert own.uid == os.geteuid()
    assert own.gid in groups
    unknown, groups = viewer(3_999_999_999)
    assert (unknown.uid, len(groups)) == (3_999_999_999, 1)


def test_a_hub_with_a_page(tmp_path: Path) -> None:
    """The table [web] opens the page with the hub; a fault of it does not keep the hub from starting."""
    config = tmp_path / "hub.toml"
    config.write_text(f'[web]\naddress = "127.0.0.1:0"\ntoken_file = "{secret(tmp_path, "one")}"\n')
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        eventually(lambda: [line for line in hub.log if line["event"] == "web.opened"])
        assert hub.stop() == 0
    config.write_text('[web]\naddress = "127.0.0.1:0"\ntoken_file = "/nowhere/token"\n')
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        eventually(lambda: [line for line in hub.log if line["event"] == "web.failed"])
        assert hub.stop() == 0
