"""
The methods that count for those who look: `timeline`, `counts`, `chart` and `fields`.

Each is a stream: an answer that takes long comes in stages, and each value replaces the one before. The last one has
``is_final``.

Always true:
- what is counted are the messages that were stored when the caller asked, up to ``until_sequence``;
- a caller gets only what it may read; a change of the access rules takes effect at the next step;
- the number of such streams is bounded together with that of tails, and each takes its turn with the other readings of
  its user.

Not here: counting (hub.control.counting), filters (hub.control.selecting), one after the other (hub.control.reading).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Annotated, Any

import msgspec

from hub.control.counting import Counted, Counting, Tally
from hub.control.messages import before_last
from hub.control.reading import Readings, Selection
from hub.control.selecting import Filters, check, selection_of
from hub.control.typed import parameters_of, values_of
from hub.errors import InvalidParams
from hub.intake import Intake
from hub.journal.journal import Journal
from hub.query.counting import Table, Tables, level_name
from hub.query.fieldnames import FieldNames
from hub.query.spread import Bar, Spread
from hub.query.spreadby import SpreadBy
from hub.query.timeline import Timeline
from hub.wire.jsonrpc import Request

STAGE_S = 0.2
"""How often a value is sent while the counting goes on."""
BARS_MAX = 500
ROWS_MAX = 1000
VALUES_MAX = 10_000
"""Values told apart for one caller; the messages of later ones are counted together."""
SERIES_MAX = 8
"""Values told apart in a chart."""
BY_MAX, APART_MAX = 4, 16
"""Names that are counted by together, or each by itself."""
VALUE_CHARS_MAX = 256
"""Longer texts are cut off, and counted together with those that begin the same."""
ZONE_S_MAX = 86_400
RECENT = 1000
"""Of how many messages the fields are collected."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Bars = Annotated[int, msgspec.Meta(ge=1, le=BARS_MAX)]


class TimelineParams(Filters, kw_only=True):
    """Filters, the most bars, and the seconds by which the time of the viewer is ahead of UTC."""

    bars: Bars = 100
    zone_s: Annotated[int, msgspec.Meta(ge=-ZONE_S_MAX, le=ZONE_S_MAX)] = 0


class CountsParams(Filters, kw_only=True):
    """Filters, what to count by, whether by each name apart, and the most rows."""

    by: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=APART_MAX)]
    apart: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)] = 100


class ChartParams(Filters, kw_only=True):
    """Filters, the field, what to tell apart and which values of it, and the most bars."""

    field: Name | None = None
    by: Name | None = None
    values: Annotated[tuple[str | None, ...], msgspec.Meta(max_length=SERIES_MAX)] = ()
    bars: Bars = 100


_OF_TIMELINE, _OF_COUNTS = parameters_of(TimelineParams), parameters_of(CountsParams)
_OF_CHART, _OF_FIELDS = parameters_of(ChartParams), parameters_of(Filters)


class Looking:
    """The methods, which read *journal* on the thread of *readings*."""

    def __init__(self, journal: Journal, readings: Readings) -> None:
        self._journal = journal
        self._readings = readings

    def timeline(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, Any]]:
        """
        Stream the number of messages that match over time, by level: ``step_s``, ``begin_s`` (seconds since the epoch),
        ``levels`` (null: without one) and in ``counts`` for each level one number for each bar; ``messages``.
        Parameters, all optional: the filters of `mpsr logs`; *bars*: at most how many (100); *zone_s*: days begin at
        midnight of the zone that is this many seconds ahead of UTC.
        """
        params = TimelineParams(**values_of(request, _OF_TIMELINE))
        timeline = Timeline(zone_s=params.zone_s)
        return self.stages(request, caller, params, timeline, lambda: _bars_of(timeline, params.bars))

    def counts(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, Any]]:
        """
        Stream the number of messages that match, by the values of what *by* names, as `mpsr logs --by` does: ``rows``,
        each a list of values (null: the message has none) and the number, the largest first; ``others``: the number of
        messages in no row; ``distinct``: how many rows without null there are, *limit* or not; ``messages``.
        Parameters: *by*: a list of names; the filters of `mpsr logs`; *limit*: how many rows (100). With *apart*, the
        messages are counted by each name apart: ``apart`` is a list of these results, one for each name.
        """
        params = CountsParams(**values_of(request, _OF_COUNTS))
        if params.apart:
            values_max = VALUES_MAX // len(params.by)
            tables = [_Table([name], values_max=values_max) for name in params.by]
            return self.stages(
                request, caller, params, Tables(tables),
                lambda: {"apart": [_rows_of(table, params.limit) for table in tables]},
            )  # fmt: skip
        if len(params.by) > BY_MAX:
            raise InvalidParams(f"by: {BY_MAX} names at most, or {APART_MAX} with apart", param="by")
        table = _Table(params.by, values_max=VALUES_MAX)
        return self.stages(request, caller, params, table, lambda: _rows_of(table, params.limit))

    def chart(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, Any]]:
        """
        Stream how the number in the field *field* spreads over time: ``step_s``, ``begin_s``, and for each bar
        ``count``, ``min``, ``p50``, ``p95``, ``max`` (null where there is none; quantiles are off by 2 % at most);
        ``values``: how many there are. Parameters: *field*, dotted as in `--where`; the filters of `mpsr logs`; *bars*:
        at most how many (100). With *by*, which is a name as in `counts`, and its *values*, at most 8, there are
        ``series`` in the place of the lists: one for each of the values, and last one for all others. Without *field*,
        the messages are counted.
        """
        params = ChartParams(**values_of(request, _OF_CHART))
        if params.by is not None:
            spreads = SpreadBy(params.field, params.by, [*dict.fromkeys(params.values)])
            return self.stages(request, caller, params, spreads, lambda: _series_of(spreads, params))
        if params.field is None:
            raise InvalidParams("chart needs the parameter field, or by", param="field")
        spread = Spread(params.field)
        return self.stages(request, caller, params, spread, lambda: _spread_of(spread, params.bars))

    def fields(self, request: Request, caller: Intake) -> AsyncIterator[dict[str, Any]]:
        """
        Stream the fields of the newest 1,000 messages that match: in ``fields`` for each its ``name``, dotted as in
        `--where`, an ``example``, its ``type`` in JSON, and the number of ``messages`` that have it. Parameters, all
        optional: the filters of `mpsr logs`.
        """
        params = Filters(**values_of(request, _OF_FIELDS))
        names = FieldNames()
        return self.stages(request, caller, params, names, lambda: _fields_of(names), newest=RECENT)

    async def stages(
        self,
        request: Request,
        caller: Intake,
        params: Filters,
        tally: Tally,
        value_of: Callable[[], dict[str, Any]],
        *,
        newest: int | None = None,
        kind: type[Counted] = Counted,
    ) -> AsyncIterator[dict[str, Any]]:
        """
        Have *tally* count the messages that match, or the *newest* of them, and yield what *value_of* returns. *kind*
        is the kind of selection.
        """
        end, after = self._journal.last_sequence, 0
        readings, clock = self._readings, asyncio.get_running_loop().time
        with readings.place(caller):
            if newest is not None:
                recent = await selection_of(params, caller, readings, Selection)
                after = await before_last(self._journal, readings, (request, caller), recent, newest, 0, end)
            query = await selection_of(params, caller, readings, kind, before=end + 1)
            counting = Counting(self._journal.path, query, tally, after)
            shown_at = clock()
            try:
                is_final = False
                while not is_final:
                    check(request, caller, query)
                    is_final = await readings.do(caller.user, counting.step)
                    if is_final or clock() - shown_at >= STAGE_S:
                        value = await readings.do(caller.user, value_of)
                        yield {**value, "is_final": is_final, "until_sequence": end}
                        shown_at = clock()
            finally:
                readings.close_later(counting)


class _Table(Table):
    """A table with short values."""

    def add_count(self, values: tuple[str | None, ...], count: int) -> None:
        if any(value is not None and len(value) > VALUE_CHARS_MAX for value in values):
            values = tuple([value if value is None else _cut(value) for value in values])
        super().add_count(values, count)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"


def _bars_of(timeline: Timeline, bars_max: int) -> dict[str, Any]:
    bars = timeline.bars(bars_max)
    ranks = sorted({rank for bar in bars for rank, count in bar.counts.items() if count}, reverse=True)
    return {
        "step_s": timeline.step_s,
        "begin_s": bars[0].begin_s if bars else None,
        "levels": [level_name(rank) for rank in ranks],
        "counts": [[bar.counts[rank] for bar in bars] for rank in ranks],
        "messages": sum(bar.messages for bar in bars),
    }


def _rows_of(table: Table, limit: int) -> dict[str, Any]:
    rows = table.rows()
    messages = sum(row.messages for row in rows) + table.others
    shown = [[[*row.values], row.messages] for row in islice(rows, limit)]
    others = messages - sum(row.messages for row in rows[:limit])
    distinct = sum(None not in row.values for row in rows)
    return {"rows": shown, "others": others, "distinct": distinct, "messages": messages}


def _spread_of(spread: Spread, bars_max: int) -> dict[str, Any]:
    bars = spread.bars(bars_max)
    return {
        "step_s": spread.step_s,
        "begin_s": bars[0].begin_s if bars else None,
        **_lists_of(bars),
        "values": spread.count,
    }


def _series_of(spreads: SpreadBy, params: ChartParams) -> dict[str, Any]:
    *series, others = spreads.bars(params.bars)
    return {
        "step_s": spreads.step_s,
        "begin_s": others[0].begin_s if others else None,
        "series": [
            *(
                {"value": value, **_lists_of(bars)}
                for value, bars in zip(dict.fromkeys(params.values), series, strict=True)
            ),
            {"is_others": True, **_lists_of(others)},
        ],
        "values": spreads.count,
    }


def _lists_of(bars: list[Bar]) -> dict[str, Any]:
    sketches = [bar.sketch if bar.sketch.count else None for bar in bars]
    return {
        "count": [bar.sketch.count for bar in bars],
        "min": [each and each.least for each in sketches],
        "p50": [each and each.quantile(0.5) for each in sketches],
        "p95": [each and each.quantile(0.95) for each in sketches],
        "max": [each and each.most for each in sketches],
    }


def _fields_of(names: FieldNames) -> dict[str, Any]:
    return {"fields": [field._asdict() for field in names.fields()], "messages": names.messages}
