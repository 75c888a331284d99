"""hub.control.figures: counters, gauges, and what the sources and the sinks report."""

from __future__ import annotations

import asyncio
import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from hub.control.figures import Figures, rss_bytes
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.socketfile import SocketFile


class Rows:
    """Sources or sinks."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stats(self) -> list[dict[str, Any]]:
        return [{"name": self._name}]


def test_sources_and_sinks_are_listed(tmp_path: Path) -> None:
    """Each kind has its list, which is empty where none are configured; the other figures do not depend on them."""

    async def main() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        endpoint = Endpoint(SocketFile.bind(str(tmp_path / "s")))
        none = Figures(endpoint, journal).stats()
        some = Figures(endpoint, journal, sources=Rows("in"), sinks=Rows("out"), tags=lambda: [{"tag": "t"}]).stats()
        assert (none["sources"], none["sinks"], none["tags"]) == ([], [], [])
        assert (some["sources"], some["sinks"]) == ([{"name": "in"}], [{"name": "out"}])
        assert some["tags"] == [{"tag": "t"}]
        assert none.keys() == some.keys()
        await endpoint.stop(timeout=0)
        endpoint.close()
        await journal.close()

    asyncio.run(main())


def test_rss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is the process's own; zero where proc is missing."""
    fields = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert rss_bytes() == pytest.approx(sum(map(int, fields)) * 1024, rel=0.1)

    def nothing(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", nothing)
    assert rss_bytes() == 0
