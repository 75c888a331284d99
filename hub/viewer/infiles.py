"""
The files of a journal as the place where the viewer finds messages, while no hub runs or beside one.

Always true: reading is done on one thread, and stops soon after its task is cancelled; nothing is written.

Not here: a running hub (hub.viewer.athub), how files are read (hub.query).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from hub.control.filters import query_of
from hub.errors import InvalidParams, JournalUnusable, MpsrError
from hub.journal.segment import SEQUENCE_MAX
from hub.message import Message
from hub.query.backward import backward
from hub.query.index import Counts
from hub.query.indexed import batches, counted, wanted_after
from hub.query.query import Query
from hub.query.timeline import Timeline
from hub.viewer.store import Figures, Filters, Found, Histogram, Refused

PAUSE_S = 0.0005
"""After each part of a long search, so that the screen is drawn meanwhile."""
T = TypeVar("T")
Stopped = Callable[[], bool]


class InFiles:
    """The messages of the journal in *folder*."""

    is_hub = False

    def __init__(self, folder: str) -> None:
        self.name = folder
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpsr-read")

    async def last(self, filters: Filters, count: int, *, after: int = 0, before: int | None = None) -> Found:
        return await self._read(partial(self._last, query_in(filters), count, after, before or SEQUENCE_MAX))

    async def following(self, filters: Filters, count: int, *, after: int = 0) -> Found:
        return await self._read(partial(self._following, query_in(filters), count, after))

    async def end(self) -> int:
        found = await self.last({}, 1)
        return found.messages[-1].sequence if found.messages else 0

    async def timeline(self, filters: Filters, bars: int, zone_s: int) -> AsyncIterator[Histogram]:
        yield await self._read(partial(self._timeline, query_in(filters), bars, zone_s))

    async def figures(self) -> Figures:
        raise Refused("no hub runs here: producers are known to a running hub only (mpsr hub)")

    async def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _read(self, work: Callable[[Stopped], T]) -> T:
        """Return what *work* returns on the thread. Raises Refused."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, stop.is_set)
        except JournalUnusable as error:
            raise Refused(f"{error}") from error
        except (MpsrError, OSError) as error:
            raise Refused(str(error)) from error
        finally:
            stop.set()

    def _last(self, query: Query, count: int, after: int, before: int, is_stopped: Stopped) -> Found:
        found: deque[Message] = deque()
        stretches = backward(self.name, query, after=after, below=before, count=count, is_time=_pace(is_stopped))
        with closing(_generator(stretches)):
            for stretch in stretches:
                found.extendleft(reversed(stretch))
                if len(found) >= count or is_stopped():
                    break
        newest = [*found][max(len(found) - count, 0) :]
        return Found(newest, is_all=len(newest) < count)

    def _following(self, query: Query, count: int, after: int, is_stopped: Stopped) -> Found:
        found: list[Message] = []
        pace = _pace(is_stopped)
        with closing(_generator(batches(self.name, query, after))) as read:
            for group in wanted_after(query, read, after):
                found += itertools.islice(group, count - len(found))
                if len(found) >= count or pace():
                    break
        return Found(found, is_all=len(found) < count)

    def _timeline(self, query: Query, bars: int, zone_s: int, is_stopped: Stopped) -> Histogram:
        timeline, pace = Timeline(zone_s=zone_s), _pace(is_stopped)
        with closing(_generator(counted(self.name, query, 0))) as parts:
            for part in parts:
                if isinstance(part, Counts):
                    timeline.add_counts(part, query)
                else:
                    timeline.add(part)
                if pace():
                    break
        shown = timeline.bars(bars)
        return Histogram(shown, timeline.step_s, sum(bar.messages for bar in shown))


def query_in(filters: Filters) -> Query:
    """Return the query with these filters. Raises Refused for a wrong one, as a hub would."""
    try:
        return query_of(Query, is_trusted=True, **filters)
    except InvalidParams as error:
        raise Refused(str(error)) from error


def _generator(iterator: Any) -> Any:
    """Return *iterator*, which is a generator: to close it closes the files it has open."""
    return iterator


def _pace(is_stopped: Stopped) -> Stopped:
    """Return a function for between two parts of the work: it pauses at times, and returns whether to stop."""
    pause_at = time.monotonic() + 20 * PAUSE_S

    def pace() -> bool:
        nonlocal pause_at
        if time.monotonic() >= pause_at:
            time.sleep(PAUSE_S)
            pause_at = time.monotonic() + 20 * PAUSE_S
        return is_stopped()

    return pace
