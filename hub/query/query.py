"""
Selects messages: filters over the batches of a journal.

Cheap tests come first. A batch is skipped by its tag, peer and time, or because its bytes lack a text that every wanted
message contains. Only the remaining batches are decoded, and only wanted entries become messages.

Always true:
- skipping a batch never changes the result;
- a gap in the journal is a message under `mpsr.loss`. It passes every filter except *tag* and *until*, because any
  message may be missing;
- an unreadable entry is a message under `mpsr.loss.client` too. It has no fields, so it meets no condition on them.

Not here: the last N (hub.query.backward), one condition (hub.query.condition), output (hub.query.rendering).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from hub import entries as codec
from hub.journal.reader import Gap
from hub.message import CLIENT_LOSS_TAG, LOSS_TAG, Batch, Message, Peer
from hub.query.condition import Condition
from hub.query.level import LevelCondition

_PLAIN = re.compile(r"[\w \-:/,;=@#%&!~'\"<>]+")  # a regular expression of these characters matches itself literally
# A regular expression of ASCII characters whose matches do not depend on the surrounding text: no anchors, no dot, no
# Unicode character classes, no flags.
_SAFE = re.compile(r"(?:[\w \-:/,;=@#%&!~'\"<>|)*+{}\]\[]|\((?!\?)|\(\?:|\?(?!\()|\\[^\w\s])+", re.ASCII)
# What the fields of a line of syslog contain, and the line does not; a test compares it with hub.syslogfields.
_SYSLOG_WORDS = (
    b"emergency alert critical error warning notice info debug kern user mail daemon auth syslog lpr news uucp cron "
    b"authpriv ftp ntp audit alert clock local0 local1 local2 local3 local4 local5 local6 local7"
).replace(b" ", b"\n")
_LOSS = LOSS_TAG.decode()
_UNREADABLE = CLIENT_LOSS_TAG.decode()
_ID = re.compile(r"[0-9a-f]{1,64}").fullmatch
Filter = Callable[[dict[Any, Any]], bool]


class Query:
    """
    The filters of a query. A message must pass all of them.

    - *tag*: a glob over tags, or several, of which one must match, unless it begins with ``!``: then it must not match;
    - *grep*: a regular expression, searched in the strings of the record, with *ignore_case* in any case; with
      *invert_match*, it must not be found;
    - *where*: conditions on fields of the record;
    - *level*: the minimum level;
    - *pid*, *uid*, *comm*: process id, user id and command name (a glob) of the writer;
    - *unit*: its systemd unit (a glob; without a dot, a service); *container*: the beginning of its container's id, or
      a glob over the container's name;
    - *since*, *until*: bounds of `received`, in nanoseconds since the epoch.

    Raises re.error for *grep*, ValueError for *level*.
    """

    def __init__(  # noqa: PLR0913  all by name
        self,
        *,
        tag: str | Sequence[str] | None = None,
        grep: str | None = None,
        where: Sequence[Condition] = (),
        level: str | None = None,
        ignore_case: bool = False,
        invert_match: bool = False,
        pid: int | None = None,
        uid: int | None = None,
        comm: str | None = None,
        unit: str | None = None,
        container: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        self.since = since
        self._until = until
        self._is_writer = _writer_filter(pid, uid, comm, unit, container)
        self._tag = _tag_filter((tag,) if isinstance(tag, str) else tag or ())
        self._wants_gaps = self._tag is None or self._tag(_LOSS)
        self._wants_unreadable = self._tag is not None and self._tag(_UNREADABLE)
        self._search: Callable[[str], object] | None = None
        conditions: list[Condition | LevelCondition] = [*where]
        if level is not None:
            conditions.append(LevelCondition(level))
        filters: list[Filter] = [condition.holds for condition in conditions]
        self._needles = [needle for condition in conditions for needle in condition.needles]
        self._text: bytes | None = None  # one more needle, which is in a string of the record
        if grep is not None:
            finds = _grep_filter(grep, ignore_case=ignore_case)
            filters.append((lambda record: not finds(record)) if invert_match else finds)
            if ignore_case or invert_match:  # texts that differ only in case differ in bytes
                pass
            elif _PLAIN.fullmatch(grep):
                self._text = grep.encode()
            elif _SAFE.fullmatch(grep):
                self._search = re.compile(grep).search
        self._holds = _all_of(filters)

    def messages(self, batches: Iterator[Batch | Gap]) -> Iterator[Message]:
        """Yield the wanted messages of *batches*. Stop at the first batch received after *until*."""
        for group in self.groups(batches):
            yield from group

    def groups(self, batches: Iterator[Batch | Gap]) -> Iterator[Iterable[Message]]:
        """Yield the wanted messages of each batch, none included. Stop at the first batch received after *until*."""
        for found in batches:
            if self._until is not None and found.received > self._until:
                return
            yield self._wanted_gap(found) if isinstance(found, Gap) else self._wanted(found)

    def _wanted_gap(self, gap: Gap) -> Iterable[Message]:
        return gap.as_batch().messages() if self._wants_gaps else ()

    def _wanted(self, batch: Batch) -> Iterable[Message]:
        """Return the wanted messages of *batch*. If its tag does not match, they are the unreadable entries."""
        if not self._may_hold(batch):
            return ()
        is_tagged = self._tag is None or self._tag(batch.tag.decode("utf-8", "replace"))
        if not is_tagged and not self._wants_unreadable:
            return ()
        if self._holds is not None:
            return self._that_hold(batch, self._holds) if is_tagged else ()
        messages = batch.messages()
        return messages if is_tagged else (message for message in messages if message.tag == _UNREADABLE)

    def _may_hold(self, batch: Batch) -> bool:
        if self.since is not None and batch.received < self.since:
            return False
        if self._is_writer is not None and not self._is_writer(batch.peer):
            return False
        if not self._needles and self._text is None and self._search is None:
            return True
        entries = bytes(batch.entries)
        if codec.may_have_syslog(entries):  # its keys are not in the bytes, and its level and facility are numbers
            return b"\\" in entries or self._may_contain(entries) or self._may_contain(_SYSLOG_WORDS)
        return all(needle in entries for needle in self._needles) and self._may_contain(entries)

    def _may_contain(self, packed: bytes) -> bool:
        """
        Return False if the strings in *packed* lack a text that every wanted message contains. Strings are stored
        unchanged in msgpack, so a match in a string is also a match in the bytes.
        """
        if self._text is not None and self._text not in packed:
            return False
        return self._search is None or self._search(str(packed, "latin-1")) is not None

    def _that_hold(self, batch: Batch, holds: Filter) -> Iterator[Message]:
        """Yield the messages whose record passes. Only their times are decoded."""
        tag = batch.tag.decode("utf-8", "replace")
        pairs = codec.pairs(batch.entries, batch.count, batch.received)
        if pairs is not None:
            for sequence, (packed, record) in enumerate(pairs, batch.sequence):
                if holds(record) and not isinstance(time := codec.time_of(packed), codec.Unreadable):
                    yield batch.message(tag, time, record, sequence)
            return
        each = codec.read_each(batch.entries, batch.count, batch.received)
        for sequence, entry in enumerate(each, batch.sequence):
            if isinstance(entry, codec.Entry) and holds(entry.record):
                yield batch.message(tag, entry.time, entry.record, sequence)


def _writer_filter(
    pid: int | None, uid: int | None, comm: str | None, unit: str | None, container: str | None
) -> Callable[[Peer], bool] | None:
    """Return a filter of peers, or None if all pass."""
    if unit is not None and "." not in unit:
        unit = f"{unit}.service"
    if container is not None and _ID(container):
        container = f"{container}*"
    holds: list[Callable[[Peer], object]] = []
    if pid is not None:
        holds.append(lambda peer: peer.pid == pid)
    if uid is not None:
        holds.append(lambda peer: peer.uid == uid)
    for glob, name in ((comm, "comm"), (unit, "unit"), (container, "container")):
        if glob is not None:
            match, value_of = re.compile(fnmatch.translate(glob)).match, attrgetter(name)
            holds.append(lambda peer, match=match, value_of=value_of: match(value_of(peer)))  # type: ignore[misc]
    return (lambda peer: all(hold(peer) for hold in holds)) if holds else None


def _tag_filter(globs: Sequence[str]) -> Callable[[str], bool] | None:
    """Return a filter of tags, or None if all pass."""
    wanted = [glob for glob in globs if not glob.startswith("!")]
    unwanted = [glob[1:] for glob in globs if glob.startswith("!")]
    is_wanted, is_unwanted = (re.compile("|".join(map(fnmatch.translate, each))).match for each in (wanted, unwanted))
    if not globs:
        return None
    return lambda tag: (not wanted or is_wanted(tag) is not None) and not (unwanted and is_unwanted(tag) is not None)


def _all_of(filters: Sequence[Filter]) -> Filter | None:
    """Return a filter that passes if all of *filters* pass, or None if there are none."""
    if len(filters) < 2:
        return filters[0] if filters else None
    return lambda record: all(holds(record) for holds in filters)


def _grep_filter(pattern: str, *, ignore_case: bool) -> Filter:
    """Return a filter that searches *pattern* in all strings of a record, at any depth. Keys are not searched."""
    search: Callable[[str], object] = re.compile(pattern, re.IGNORECASE if ignore_case else 0).search
    if _PLAIN.fullmatch(pattern) and not ignore_case:
        search = _search_plain(pattern)

    def holds(record: dict[Any, Any]) -> bool:
        for value in record.values():
            if isinstance(value, str):
                if search(value) is not None:
                    return True
            elif isinstance(value, (dict, list)) and _finds(search, value):
                return True
        return False

    return holds


def _search_plain(text: str) -> Callable[[str], object]:
    """Return a replacement for a regular expression's search that finds a literal *text* faster."""
    return lambda value: True if text in value else None


def _finds(search: Callable[[str], object], value: object) -> bool:
    """Return whether *search* matches a string in *value*, at any depth. Not recursive, so that depth is no limit."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if search(value) is not None:
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
