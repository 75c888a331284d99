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
from hub.wire.detect import Decoder, Item
from hub.wire.payload import Unopened
from tests.support import read_entries

PROPERTY = settings(max_examples=100, derandomize=True, database=None)

T = 1441588984
N = 123456789
CHUNK = b"\xb8p8n9gmxTQVC8/nh2wlKKeQ=="
FLUENTD_CHUNK = b"\xb9p8n9gmxTQVC8/nh2wlKKeQ==\n"

_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def feed(decoder: Decoder, *pieces: bytes) -> list[Item]:
    """Feed all *pieces* and the end of the stream, and open payloads. Stop at a fatal loss, as a connection does."""
    items: list[Item] = []
    for piece in pieces:
        for step in steps(decoder, piece):
            items += opened(step)
            if items and is_fatal(items[-1]):
                return items
    return [*items, *opened(decoder.finish())]


def steps(decoder: Decoder, piece: bytes) -> Iterator[Sequence[Item]]:
    """Feed *piece*. Yield the items of each step until the decoder has no more."""
    yield decoder.receive(piece)
    while decoder.has_more:
        yield decoder.receive(b"")


def opened(items: Iterable[Item]) -> list[Item]:
    """Return *items* with all payloads opened, up to a fatal loss."""
    found: list[Item] = []
    for item in items:
        found += item.open() if isinstance(item, Unopened) else [item]
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


def is_fatal(item: Item) -> bool:
    """Return whether *item* ends the stream."""
    return isinstance(item, Loss) and item.fatal


def seen(items: Sequence[Item]) -> list[Any]:
    """
    Return each message, chunk id, loss and request in order, independent of batches.

    Losses without a chunk id that have the same reason are merged into the first: their number depends on what arrived
    together.
    """
    rows: list[Any] = []
    merged: dict[tuple[str, bytes], int] = {}
    for item in items:
        if isinstance(item, Batch):
            rows += [("entry", item.tag, bytes(raw)) for raw in _split(item.entries)]
            if item.chunk_id is not None:
                rows.append(("chunk", item.tag, item.chunk_id))
        elif isinstance(item, Loss):
            # The reason and the place of a fatal fault depend on the amount of data available.
            if item.fatal:
                rows.append(("fatal", item.chunk_id))
                continue
            key, count = (item.reason, item.tag), item.count
            if item.chunk_id is None and key in merged:
                place = merged[key]
                rows[place] = (*rows[place][:-1], rows[place][-1] + count)
                continue
            if item.chunk_id is None:
                merged[key] = len(rows)
            rows.append(("loss", item.reason, item.tag, item.chunk_id, count))
        else:
            rows.append(item)
    return rows


def messages(items: Sequence[Item]) -> list[tuple[str, int | None, dict[Any, Any]]]:
    """Return tag, time and record of every message. AssertionError if there is any other item."""
    rows = []
    for item in items:
        assert isinstance(item, Batch), item
        entries = list(read_entries(item.entries, item.count))
        assert len(entries) == item.count
        for entry in entries:
            assert isinstance(entry, codec.Entry), entry
            rows.append((item.tag.decode(), entry.time, entry.record))
    return rows


def losses(items: Sequence[Item]) -> list[Loss]:
    """Return the losses."""
    return [item for item in items if isinstance(item, Loss)]


def batches(items: Sequence[Item]) -> list[Batch]:
    """Return the batches."""
    return [item for item in items if isinstance(item, Batch)]
