"""hub.web.source: the socket, the token, and permissions, while it runs."""

from __future__ import annotations

import asyncio
import importlib
import os
import stat
from pathlib import Path

import pytest

from hub.address import Address
from hub.errors import SocketInUse, SourceError
from hub.paths import AbsolutePath
from hub.sources import configured
from hub.sources.kinds import Http
from hub.web import source
from hub.web.source import HttpSource
from tests.hub.clients import Run, both_loops, until
from tests.hub.web.serving import BEARER, serving


@both_loops
def test_the_socket_comes_back(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket whose file was removed is bound anew, with its permissions; connections stay."""
    monkeypatch.setattr(configured, "LOOK_S", 0.001)

    async def main() -> None:
        async with serving(tmp_path) as here:
            here.source.permit(0o600, None)
            assert (await here.post("/messages", "one")).status == 200
            os.unlink(here.path)
            await until(lambda: os.path.exists(here.path))
            assert stat.S_IMODE(os.stat(here.path).st_mode) == 0o600
            assert (await here.post("/messages", "two")).status == 200
            with pytest.raises(SocketInUse):
                HttpSource(here.source._table, here.endpoint, here.shown)
        assert not os.path.exists(here.path)

    run(main())


def test_a_token_that_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is in force soon; a file that others can read, or that is gone, changes nothing and is logged once."""
    monkeypatch.setattr(configured, "LOOK_S", 0.001)
    logged = ""

    async def main() -> None:
        nonlocal logged
        async with serving(tmp_path, is_tcp=True) as here:

            async def wait_for(what: str) -> None:
                nonlocal logged
                while what not in logged:
                    logged += capfd.readouterr().err
                    await asyncio.sleep(0.001)

            assert (await here.get("/", **BEARER)).status == 200
            here.token.chmod(0o644)
            await wait_for("can be read or changed by other users")
            assert (await here.get("/", **BEARER)).status == 200
            here.token.unlink()
            await wait_for("No such file")
            assert (await here.get("/", **BEARER)).status == 200
            fresh = here.token.with_name("fresh")
            fresh.write_text("fresh")
            fresh.chmod(0o600)
            fresh.rename(here.token)
            while (await here.get("/", **BEARER)).status == 200:
                pass
            assert (await here.get("/", Authorization="Bearer fresh")).status == 200
            here.source.permit(0o600, None)  # there is no file
        logged += capfd.readouterr().err

    asyncio.run(main())
    assert logged.count("those read before stay in use") == 2


def test_no_token(tmp_path: Path) -> None:
    """Without a token that can be used, nothing listens."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            table = Http(address=Address("127.0.0.1:0"), token_file=AbsolutePath(tmp_path / "absent"))
            with pytest.raises(SourceError, match="No such file"):
                HttpSource(table, here.endpoint, here.shown)

    asyncio.run(main())


def test_accepting_fails(tmp_path: Path) -> None:
    """If the socket cannot be used any more, the source ends with the error."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            table = Http(path=AbsolutePath(tmp_path / "other"), mode=here.source._table.mode)
            other = HttpSource(table, here.endpoint, here.shown)

            async def fail() -> None:
                raise OSError(22, "Invalid argument")

            other._listener.run = fail  # type: ignore[method-assign]
            with pytest.raises(OSError, match="Invalid argument"):
                await other.run()

    asyncio.run(main())


def test_otlp_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its libraries, everything else works."""
    assert source._otlp() is not None

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert source._otlp() is None
