"""
The messages that `mpsr logs --socket` shows, asked of a running hub.

They are those that `hub.cli.stored` reads from the files, so that what is shown does not depend on the way. This is a
file of its own because the client takes a fifth of the start of `mpsr logs`.

Always true: what the hub is asked for arrives a page at a time; a follower goes on after a restart of the hub where it
was.

Not here: options, filters and output (hub.cli.logs), how the hub reads (hub.control.messages).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hub.cli.output import Lines, rest
from hub.cli.stored import FOLLOW_S
from hub.journal.segment import SEQUENCE_MAX
from hub.message import Message
from hub.query.index import Counts
from hub.query.packed import unpack
from producers import Client, NotConnected
from producers import call as ask
from producers.errors import AnswerLost

LAST_MAX = 10_000
"""The most messages that the hub looks for backward at once."""
STRETCH = 1000
"""Messages of a stretch that the hub is asked for backward."""
QUERY_TIMEOUT_S = 3600.0
"""A query for the last messages that match may have to search all of the journal."""


class AtHub:
    """The messages that match *filters*, by the names of `query`, in the journal of the hub at *path*."""

    def __init__(self, path: str, filters: Mapping[str, Any]) -> None:
        self._path = path
        self._filters = {name: value for name, value in filters.items() if value is not None and value is not False}
        self._filters["packed"] = True

    def groups(self, after: int) -> Iterator[Iterable[Message]]:
        return self._pages(self._filters, after=after)

    def shown(self, after: int, show: Callable[[Iterable[Message]], Lines]) -> Iterator[Lines]:
        return map(show, self.groups(after))

    def counted(self, after: int) -> Iterator[Counts | Iterable[Message]]:
        return self.groups(after)

    def last(self, count: int, after: int, before: int = SEQUENCE_MAX) -> Sequence[Message]:
        if not count:
            return ()
        if count <= LAST_MAX:
            found = self._pages(self._filters, after=after, last=count, before=before)
            return list(itertools.islice(itertools.chain.from_iterable(found), count))
        newest = (message for stretch in self.backward(after, before) for message in reversed(stretch))
        return list(itertools.islice(newest, count))[::-1]

    def backward(self, after: int, before: int = SEQUENCE_MAX) -> Iterator[Sequence[Message]]:
        while before > after + 1:
            found = self._pages(self._filters, after=after, last=STRETCH, before=before)
            stretch = list(itertools.chain.from_iterable(found))
            if not stretch:
                return
            yield stretch
            before = stretch[0].sequence

    def end_before(self, received: int) -> int:
        found = self._pages({"packed": True, "until": received - 1}, last=1)
        return max((message.sequence for page in found for message in page), default=0)

    def hub_id(self) -> str:
        return ""  # no method tells it

    def follow(self, after: int) -> Iterator[Iterator[Iterable[Message]]]:
        with Client(self._path) as client, client.stream("tail", {**self._filters, "after": after}) as stream:
            while True:
                if stream.wait(FOLLOW_S):
                    yield iter((_messages(next(stream)),))
                rest(0)

    def _pages(self, filters: Mapping[str, Any], *, after: int = 0, **place: int) -> Iterator[list[Message]]:
        params: dict[str, Any] = {**filters, **place, "after": after}
        if params.get("before") == SEQUENCE_MAX:
            del params["before"]
        while True:
            try:
                page = ask("query", params, path=self._path, timeout=QUERY_TIMEOUT_S)
            except AnswerLost as lost:  # a query changes nothing
                raise NotConnected(lost.path, lost.reason) from lost
            yield _messages(page)
            if page["next"] is None:
                return
            params.pop("last", None)
            params["after"] = page["next"]


def _messages(value: Mapping[str, Any]) -> list[Message]:
    """Return the messages of a page or of a value of `tail`."""
    return [unpack(message) for message in value.get("messages", ())]
