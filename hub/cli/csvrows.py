"""
Messages as rows of CSV: what the hub knows of each, then the level and the text and the whole record as JSON, or the
fields that are asked for.

Always true: each row has as many cells as the header; a text is as it was sent, in quotes where that is needed.

Not here: which messages (hub.query.query), where they go (hub.cli.export).
Source: RFC 4180.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from hub.cli.output import Encoded
from hub.message import Message
from hub.query.condition import ABSENT, look_up
from hub.query.counting import level_name, text_of
from hub.query.level import rank_of
from hub.query.rendering import record_json, rfc3339, text_in

_OF_MESSAGE = ("sequence", "time", "received", "tag", "pid", "uid", "gid", "comm", "unit", "container", "host")
_OF_RECORD = ("level", "message", "record")


class CsvRows:
    """Shows messages as rows. *fields*: the columns of the record, dotted as in `--where`."""

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        self._paths = None if fields is None else [(key, key.split(".")) for key in fields]
        self.header: bytes = _rows([[*_OF_MESSAGE, *(_OF_RECORD if fields is None else fields)]])

    def show(self, messages: Iterable[Message]) -> Encoded:
        """Return the rows of *messages*."""
        rows = [[*_cells(message), *self._fields(message.record)] for message in messages]
        return Encoded(len(rows), _rows(rows))

    def _fields(self, record: dict[Any, Any]) -> list[str]:
        if self._paths is None:
            return [level_name(rank_of(record)) or "", text_in(record) or "", record_json(record)]
        found = (look_up(record, key, path) for key, path in self._paths)
        return ["" if value is ABSENT else text_of(value) or "" for value in found]


def _cells(message: Message) -> list[Any]:
    peer, home = message.peer, message.home
    writer = [peer.pid, peer.uid, peer.gid, peer.comm, peer.unit, peer.container, "" if home is None else home.host]
    return [message.sequence, rfc3339(message.time), rfc3339(message.received), message.tag, *writer]


def _rows(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
