"""hub.sources.shown: whether messages are stored."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub.control.reading import Readings
from hub.journal.journal import Journal
from hub.sources.shown import Shown


def test_a_hub_is_ready_while_it_stores(tmp_path: Path) -> None:
    """It is not while its disk fails, nor while it stops."""

    async def main() -> None:
        journal, readings = await Journal.open(str(tmp_path / "journal")), Readings()
        is_stopping = False
        shown = Shown(journal, readings, stats=dict, is_stopping=lambda: is_stopping)
        assert shown.is_ready
        journal.is_failing = True
        assert not shown.is_ready
        journal.is_failing, is_stopping = False, True
        assert not shown.is_ready
        readings.close()
        await journal.close()

    asyncio.run(main())
