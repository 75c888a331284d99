"""hub.sources.configured: what all configured sources do alike."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub.endpoint import Endpoint
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.socketfile import SocketFile
from hub.sources.configured import ReadingSource
from hub.sources.table import Fifo, Tag


class Reading(ReadingSource):
    """Ends when the test lets it."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        table = Fifo(path=AbsolutePath(folder / "way"), mode=Mode(0o600), group="adm", tag=Tag("app"))
        super().__init__(table, endpoint)
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        await self._woken.wait()
        await self.may_end.wait()
        self._ended.set()


def test_a_stop_waits_for_the_end_or_for_its_time(folder: Path) -> None:
    """It tells the source at once; a source that does not end in time is left to whoever stops it."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(str(folder / "s")))
        source = Reading(endpoint, folder)
        assert (source._mode, source._group, source._tag) == (0o600, "adm", b"app")
        running = asyncio.create_task(source.run())
        await source.stop(0.0)
        assert source._is_stopping
        assert not running.done()
        stopping = asyncio.create_task(source.stop(60))
        source.may_end.set()
        await stopping
        await running
        await endpoint.stop(timeout=0)
        endpoint.close()

    asyncio.run(main())
