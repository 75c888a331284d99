"""
Shared by the tests of decoders: feeding in pieces, and a view of the items that does not depend on the pieces.

How messages are gathered into batches depends on what arrived together. The messages, chunk ids and losses and their
order do not. `seen` returns only these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import Batch, Loss
from hub.wire.detect import Decoder, Unit
from hub.wire.payload import Unopened

PROPERTY = settings(max_examples=100, derandomize=True, database=None)

T = 1441588984
N = 123456789
CHUNK = b"\xb8p8n9gmxTQVC8/nh2wlKKeQ=="
FLUENTD_CHUNK = b"\xb9p8n9gmxTQVC8/nh2wlKKeQ==\n"

_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def feed(decoder: Decoder, *pieces: bytes) -> list[Unit]:
    """Feed all *pieces* and the end of the stream, and open payloads. Stop at a fatal loss, as a connection does."""
    units: list[Unit] = []
    for piece in pieces:
        for step in steps(decoder, piece):
            units += opened(step)
            if units and is_fatal(units[-1]):
                return units
    return [*units, *opened(decoder.finish())]


def steps(decoder: Decoder, piece: bytes) -> Iterator[Sequence[Unit]]:
    """Feed *piece*. Yield the items of each step until the decoder has no more."""
    yield decoder.receive(piece)
    while decoder.has_more:
        yield decoder.receive(b"")


def opened(units: Iterable[Unit]) -> list[Unit]:
    """Return *units* with all payloads opened, up to a fatal loss."""
    found: list[Unit] = []
    for unit in units:
        found += unit.open() if isinstance(unit, Unopened) else [unit]
        if found and is_fatal(found[-1]):
            break
    return found


def single_bytes(data: bytes) -> list[bytes]:
    """Return *data* in pieces of one byte."""
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return *data* cut at *places*."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


CUTS = st.lists(st.integers(0, 1 << 30), max_size=12)


def is_fatal(unit: Unit) -> bool:
    """Return whether *unit* ends the stream."""
    return isinstance(unit, Loss) and unit.fatal


def seen(units: Sequence[Unit]) -> list[Any]:
    """
    Return each message, chunk id, loss and request in order, independent of batches.

    Losses without a chunk id that have the same reason are merged into the first: their number depends on what arrived
    together.
    """
    rows: list[Any] = []
    merged: dict[tuple[str, bytes], int] = {}
    for unit in units:
        if isinstance(unit, Batch):
            rows += [("entry", unit.tag, bytes(raw)) for raw in _split(unit.entries)]
            if unit.chunk is not None:
                rows.append(("chunk", unit.tag, unit.chunk))
        elif isinstance(unit, Loss):
            # The reason and the place of a fatal fault depend on the amount of data available.
            if unit.fatal:
                rows.append(("fatal", unit.chunk))
                continue
            key, count = (unit.reason, unit.tag), unit.count
            if unit.chunk is None and key in merged:
                place = merged[key]
                rows[place] = (*rows[place][:-1], rows[place][-1] + count)
                continue
            if unit.chunk is None:
                merged[key] = len(rows)
            rows.append(("loss", unit.reason, unit.tag, unit.chunk, count))
        else:
            rows.append(unit)
    return rows


def messages(units: Sequence[Unit]) -> list[tuple[str, int | None, dict[Any, Any]]]:
    """Return tag, time and record of every message. AssertionError if there is any other item."""
    rows = []
    for unit in units:
        assert isinstance(unit, Batch), unit
        entries = list(codec.read(unit.entries, unit.count))
        assert len(entries) == unit.count
        for entry in entries:
            assert isinstance(entry, codec.Entry), entry
            rows.append((unit.tag.decode(), entry.time, entry.record))
    return rows


def losses(units: Sequence[Unit]) -> list[Loss]:
    """Return the losses."""
    return [unit for unit in units if isinstance(unit, Loss)]


def batches(units: Sequence[Unit]) -> list[Batch]:
    """Return the batches."""
    return [unit for unit in units if isinstance(unit, Batch)]
