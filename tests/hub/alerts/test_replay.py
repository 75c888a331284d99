"""hub.alerts.replay: when an alert would have fired, as the alert that runs decides it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from hub.alerts.replay import replay
from hub.alerts.watch import Watch
from tests.hub.alerts.test_watch import sequences
from tests.hub.alerts.watching import AloneWatching, alert_of
from tests.hub.sinks.delivering import batch, hub_in


def test_it_decides_as_the_alert_does(tmp_path: Path) -> None:
    """Over messages of several tags, in one commit or several; *since* leaves out what came before."""
    dice, alert = random.Random(1), alert_of(count=2, within="1m", pause="0s", where=["n>5"], tag=["a*"])

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            for _ in range(30):
                records = [{"n": dice.randint(0, 10)} for _ in range(dice.randint(1, 4))]
                await rig.journal.append([batch(*records, tag=dice.choice((b"a", b"ab", b"c")))])
            found = list(replay(alert, rig.journal.path, None))
            host = AloneWatching()
            watch = host.sink = Watch(alert, host)
            watch.open(0, b"")
            reader = rig.journal.read()
            watch.deliver([*alert.query().messages(reader.read())])
            reader.close()
            assert len(found) > 5
            assert [fired.last.sequence for fired, _ in found] == sequences(host)
            assert all(message.sequence == fired.last.sequence for fired, message in found)
            middle = found[3][1].received + 1
            later = list(replay(alert, rig.journal.path, middle))
            assert min(fired.first.received for fired, _ in later) >= middle

    asyncio.run(main())
