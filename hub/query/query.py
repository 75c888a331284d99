"""
Selects messages: filters over the batches of a journal.

Cheap tests come first. A batch is skipped by its tag, peer and time, or because its bytes lack what every wanted
message contains. Of the remaining batches, only the entries whose bytes contain it are decoded (hub.query.candidates);
if most entries do, all are decoded.

Always true:
- what is not decoded is not wanted: the result is that of decoding everything;
- a gap in the journal is a message under `mpsr.loss`. It passes every filter except *tag* and *until*, because any
  message may be missing;
- an unreadable entry is a message under `mpsr.loss.client` too. It has no fields, so it meets no condition on them.

Not here: the last N (hub.query.backward), one condition (hub.query.condition), output (hub.query.rendering).
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec

from hub import entries as codec
from hub.journal.reader import Gap
from hub.message import CLIENT_LOSS_TAG, LOSS_TAG, Batch, Message, Peer
from hub.query.candidates import Find, Finder, are_dense, candidates, of_choice, of_regex
from hub.query.condition import Condition
from hub.query.found import Pair, found_of
from hub.query.level import NO_RANK, LevelCondition
from hub.query.literals import Choice, literals_of
from hub.query.plaintext import PlainText, is_found
from hub.query.ranks import Ranked, RankFinder

_PLAIN = re.compile(r"[\w \-:/,;=@#%&!~'\"<>]+")  # a regular expression of these characters matches itself literally
# A regular expression of ASCII characters whose matches do not depend on the surrounding text: no anchors, no dot, no
# Unicode character classes, no flags.
_SAFE = re.compile(r"(?:[\w \-:/,;=@#%&!~'\"<>|)*+{}\]\[]|\((?!\?)|\(\?:|\?(?!\()|\\[^\w\s])+", re.ASCII)
# What the fields of a line of syslog contain, and the line does not; a test compares it with hub.syslogfields.
_SYSLOG_WORDS = (
    b"emergency alert critical error warning notice info debug kern user mail daemon auth syslog lpr news uucp cron "
    b"authpriv ftp ntp audit alert clock local0 local1 local2 local3 local4 local5 local6 local7"
).replace(b" ", b"\n")
_FEW = 4
"""As many messages are decoded one by one: to treat them together would take longer."""
_TAGS_KEPT = 32
"""
Tags of which it is remembered whether they are wanted: in a journal of small batches, few tags take turns. Each may
have 4 KiB.
"""
_LOSS = LOSS_TAG.decode()
_UNREADABLE = CLIENT_LOSS_TAG.decode()
_ID = re.compile(r"[0-9a-f]{1,64}").fullmatch
Filter = Callable[[dict[Any, Any]], bool]
WholeFilter = Callable[[Sequence[dict[Any, Any]]], bool]
"""Returns True if all records pass, False if that is not known."""


class _Some(NamedTuple):
    """The bytes of all entries of a batch, and the indexes of some of them."""

    raws: Sequence[msgspec.Raw]
    indexes: Sequence[int]


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
    - *host*: the host that the message comes from (a glob), if another hub has stored it first;
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
        host: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        self.since = since
        self.until = until
        self.rank_min: int | None = None
        """The rank of the level that is the minimum, if there is one."""
        self._is_writer = _writer_filter(pid, uid, comm, unit, container)
        self._is_host = None if host is None else re.compile(fnmatch.translate(host)).match
        self._tag = _tag_filter((tag,) if isinstance(tag, str) else tag or ())
        self._wants_gaps = self._tag is None or self._tag(_LOSS)
        self._wants_unreadable = self._tag is not None and self._tag(_UNREADABLE)
        conditions: list[Condition | LevelCondition] = [*where]
        if level is not None:
            conditions.append(at_least := LevelCondition(level))
            self.rank_min = at_least.rank
        filters: list[Filter] = [condition.holds for condition in conditions]
        whole = [condition.all_hold if isinstance(condition, Condition) else None for condition in conditions]
        self._of_fields = [finder for condition in conditions for finder in condition.finders]
        self._of_text: list[Finder] = []  # for what is in a string of the record
        self.texts: list[Choice] = [choice for condition in where for choice in condition.texts]
        """Choices of texts: the bytes of every wanted message contain one of each, in lower or upper case."""
        self.ignores_case: bool = False
        """Whether one of them is found in any case."""
        self.is_counted: bool = grep is None and not where and self._is_writer is None and self._is_host is None
        """Whether tag, level and time of a message decide if it is wanted."""
        self.is_selective: bool = bool(level or tag) or since is not None or until is not None
        """Whether an index may know where nothing is wanted."""
        if grep is not None:
            plain = PlainText(grep) if _PLAIN.fullmatch(grep) and not ignore_case else None
            finds = _grep_filter(grep, ignore_case=ignore_case) if plain is None else plain.holds
            filters.append((lambda record: not finds(record)) if invert_match else finds)
            whole.append(None if plain is None or invert_match else plain.all_hold)
            if not invert_match:
                self._of_text = _text_finders(grep, ignore_case=ignore_case)
                choices, self.ignores_case = literals_of(grep, ignore_case=ignore_case)
                self.texts += choices
        self.is_selective |= bool(self.texts)
        self._finders = (*self._of_text, *self._of_fields)
        self._ranks = RankFinder()
        self._around: tuple[object, bool] = (None, False)  # the last window, and whether nothing in it is wanted
        self._holds = _all_of(filters)
        self.takes_batches: bool = self._holds is None and not self._wants_unreadable
        """Whether all messages of a batch are wanted, or none: then `selects` decides."""
        self._whole = [] if None in whole else [*filter(None, whole)]

    def wants_tag(self, tag: bytes) -> bool:
        """Return whether messages under *tag* are wanted."""
        return self._tag is None or self._tag(tag.decode("utf-8", "replace"))

    def messages(self, batches: Iterator[Batch | Gap]) -> Iterator[Message]:
        """Yield the wanted messages of *batches*. Stop at the first batch received after *until*."""
        for group in self.groups(batches):
            yield from group

    def groups(self, batches: Iterator[Batch | Gap]) -> Iterator[Iterable[Message]]:
        """Yield the wanted messages of each batch, none included. Stop at the first batch received after *until*."""
        for found in batches:
            if self.is_after(found):
                return
            yield self._wanted_gap(found) if isinstance(found, Gap) else self._wanted(found)

    def counted_groups(self, batches: Iterator[Batch | Gap]) -> Iterator[Iterable[Message]]:
        """Yield the same groups for a caller that counts by tag, level and time of receipt: see `counted_in`."""
        for found in batches:
            if self.is_after(found):
                return
            yield self.counted_in(found)

    def is_after(self, found: Batch | Gap) -> bool:
        """Return whether *found*, and all that follows, was received after *until*."""
        if self.until is None or found.received <= self.until:
            return False
        return not isinstance(found, Gap) or found.earliest > self.until

    def wants_rank(self, rank: int) -> bool:
        """Return whether messages whose level has this *rank* are wanted; -1: it is not known."""
        return self.rank_min is None or rank >= self.rank_min

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether messages received from *first* to *last* can be wanted."""
        return (self.since is None or last >= self.since) and (self.until is None or first <= self.until)

    def contains(self, first: int, last: int) -> bool:
        """Return whether all times of receipt from *first* to *last* are wanted."""
        return (self.since is None or first >= self.since) and (self.until is None or last <= self.until)

    def selects(self, batch: Batch) -> bool:
        """Return whether messages of *batch* can be wanted, as far as *grep*, *where* and *level* do not decide it."""
        return self._is_from(batch) and self.wants_tag(batch.tag)

    def reads(self, batch: Batch) -> bool:
        """Return whether messages of *batch* can be wanted, its unreadable entries included."""
        return self._is_from(batch) and (self._wants_unreadable or self.wants_tag(batch.tag))

    def found_in(self, found: Batch | Gap) -> Iterable[Message]:
        """Return the wanted messages of one batch, whatever *until* is."""
        return self._wanted_gap(found) if isinstance(found, Gap) else self._wanted(found)

    def counted_in(self, found: Batch | Gap) -> Iterable[Message]:
        """
        Return the wanted messages of one batch, if possible as `Ranked`: then only their levels are decoded, and an
        entry counts as readable if its time and its level are.
        """
        if self.is_counted and isinstance(found, Batch) and self.selects(found):
            ranks = self._ranks.find(found)
            if ranks is not None:
                rank_min = NO_RANK if self.rank_min is None else self.rank_min
                return Ranked(found, ranks.ranks, rank_min, ranks.misfits)
        return self.found_in(found)

    def _wanted_gap(self, gap: Gap) -> Iterable[Message]:
        if not self._wants_gaps:
            return ()
        if self.until is not None and gap.received > self.until:  # only what it has of the time before is wanted
            gap = msgspec.structs.replace(gap, received=self.until)
        return gap.as_batch().messages()

    def _is_from(self, batch: Batch) -> bool:
        """Return whether the time of *batch*, its writer and its host are wanted."""
        if self.since is not None and batch.received < self.since:
            return False
        if self._is_writer is not None and not self._is_writer(batch.peer):
            return False
        return self._is_host is None or (batch.home is not None and self._is_host(batch.home.host) is not None)

    def _wanted(self, batch: Batch) -> Iterable[Message]:
        """Return the wanted messages of *batch*. If its tag does not match, they are the unreadable entries."""
        if not self._is_from(batch):
            return ()
        is_tagged = self.wants_tag(batch.tag)
        if not is_tagged and not self._wants_unreadable:
            return ()
        if self._holds is not None:
            return self._that_hold(batch, self._holds) if is_tagged else ()
        messages = _all(batch)
        return messages if is_tagged else (message for message in messages if message.tag == _UNREADABLE)

    def _that_hold(self, batch: Batch, holds: Filter) -> Iterable[Message]:
        """Return the messages whose record passes. Entries that cannot pass are not decoded."""
        entries = batch.entries
        if self.rank_min is not None and not self._finders and batch.count > _FEW:
            some = self._of_rank(batch, self.rank_min)
            if some is not None:
                return self._passing_some(batch, *some, holds) if some.indexes else ()
        if self._finders:
            if isinstance(entries, memoryview) and self._is_around_unwanted(entries):
                return ()
            entries = packed = bytes(entries)
            finds = self._finds(packed)
            if finds is None:
                return ()
            is_narrow = finds and batch.count > _FEW and not are_dense(packed, batch.count, finds)
            raws = codec.split(packed, batch.count) if is_narrow else None
            if raws is not None:
                starts = [*itertools.accumulate(map(len, raws), initial=codec.ARRAY_HEADER_BYTES)]
                indexes = candidates(starts, finds)
                if indexes is not None:
                    return self._passing_some(batch, raws, indexes, holds)
        return _passing(batch, entries, _sequences(batch), holds, self._whole)

    def _of_rank(self, batch: Batch, rank_min: int) -> _Some | None:
        """Return the entries whose level is *rank_min* at least; None if that is not known, or if most are."""
        found = self._ranks.find(batch)
        if found is None:
            return None
        indexes = [index for index, rank in enumerate(found.ranks) if rank >= rank_min]
        if not indexes:
            return _Some((), ())
        raws = codec.split(bytes(batch.entries), batch.count) if 2 * len(indexes) <= batch.count else None
        return None if raws is None else _Some(raws, indexes)

    def _passing_some(
        self, batch: Batch, raws: Sequence[msgspec.Raw], indexes: Sequence[int], holds: Filter
    ) -> Iterable[Message]:
        """Return the messages whose record passes, of the entries that have these *indexes*."""
        entries = codec.join(map(raws.__getitem__, indexes), len(indexes))
        return _passing(batch, entries, [batch.sequence + index for index in indexes], holds, self._whole)

    def _is_around_unwanted(self, entries: memoryview) -> bool:
        """
        Return whether the bytes that *entries* are a view of, a window of the journal, contain nothing that is wanted.

        One look at a window takes less time than one at each of its batches, and saves a copy of them.
        """
        window, is_unwanted = self._around
        if entries.obj is not window:
            window = entries.obj
            is_unwanted = isinstance(window, bytes) and self._finds(window) is None
            self._around = window, is_unwanted
        return is_unwanted

    def _finds(self, packed: bytes) -> list[Find] | None:
        """
        Return the functions that find candidates in *packed*; none if all entries are candidates, None if no entry is
        one.
        """
        if not codec.may_have_syslog(packed):
            return _begun(self._finders, packed)
        # The keys of its fields are not in the bytes, its level and facility are numbers, and values may be escaped.
        if b"\\" in packed or _begun(self._of_text, _SYSLOG_WORDS) is not None:
            return []
        return _begun(self._of_text, packed)


def _begun(finders: Iterable[Finder], packed: bytes) -> list[Find] | None:
    """Return the function that each of *finders* makes for *packed*; None if one of them finds nothing there."""
    finds = []
    for finder in finders:
        if (find := finder(packed)) is None:
            return None
        finds.append(find)
    return finds


def _all(batch: Batch) -> Iterable[Message]:
    """Return all messages of *batch*, if possible together."""
    if batch.count > _FEW and not codec.may_have_syslog(batch.entries):
        pairs = codec.pairs(batch.entries, batch.count, batch.stamp)
        if pairs is not None and (found := found_of(batch, _sequences(batch), [*pairs])) is not None:
            return found
    return batch.messages()


def _sequences(batch: Batch) -> range:
    return range(batch.sequence, batch.sequence + batch.count)


def _passing(
    batch: Batch, entries: bytes | memoryview, sequences: Sequence[int], holds: Filter, whole: Sequence[WholeFilter]
) -> Iterable[Message]:
    """
    Return the messages of *entries* whose record passes, if possible together. Their sequences are *sequences*.

    *whole* are the parts of *holds*, if each of them can tell quickly that all pass.
    """
    pairs = codec.pairs(entries, len(sequences), batch.stamp)
    if not isinstance(pairs, list) or len(pairs) <= _FEW:  # lines of syslog are taken apart when their turn comes
        return _passing_each(batch, entries, sequences, pairs, holds)
    records = [*map(itemgetter(1), pairs)]
    if not whole or not all(all_hold(records) for all_hold in whole):
        chosen = [index for index, record in enumerate(records) if holds(record)]
        if len(chosen) < len(pairs):
            pairs = [pairs[index] for index in chosen]
            sequences = [sequences[index] for index in chosen]
    found = found_of(batch, sequences, pairs)
    return _with_times(batch, zip(sequences, pairs, strict=True)) if found is None else found


def _passing_each(
    batch: Batch, entries: bytes | memoryview, sequences: Sequence[int], pairs: Iterable[Pair] | None, holds: Filter
) -> Iterator[Message]:
    tag = batch.tag.decode("utf-8", "replace")
    if pairs is not None:
        for sequence, (packed, record) in zip(sequences, pairs, strict=True):
            if holds(record) and not isinstance(time := codec.time_of(packed), codec.Unreadable):
                yield batch.message(tag, time, record, sequence)
        return
    for sequence, entry in zip(sequences, codec.read_each(entries, len(sequences), batch.stamp), strict=False):
        if isinstance(entry, codec.Entry) and holds(entry.record):
            yield batch.message(tag, entry.time, entry.record, sequence)


def _with_times(batch: Batch, each: Iterable[tuple[int, Pair]]) -> Iterator[Message]:
    tag = batch.tag.decode("utf-8", "replace")
    for sequence, (packed, record) in each:
        if not isinstance(time := codec.time_of(packed), codec.Unreadable):
            yield batch.message(tag, time, record, sequence)


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

    @functools.lru_cache(maxsize=_TAGS_KEPT)
    def wants(tag: str) -> bool:
        return (not wanted or is_wanted(tag) is not None) and not (unwanted and is_unwanted(tag) is not None)

    return wants


def _all_of(filters: Sequence[Filter]) -> Filter | None:
    """Return a filter that passes if all of *filters* pass, or None if there are none."""
    if len(filters) < 2:
        return filters[0] if filters else None
    return lambda record: all(holds(record) for holds in filters)


def _text_finders(pattern: str, *, ignore_case: bool) -> list[Finder]:
    """Return finders for the texts that every string contains in which *pattern* is found."""
    choices, ignores_case = literals_of(pattern, ignore_case=ignore_case)
    finders = [of_choice(choice, ignore_case=ignores_case) for choice in choices]
    if not ignores_case and _SAFE.fullmatch(pattern) and not _PLAIN.fullmatch(pattern):
        finders.append(of_regex(re.compile(pattern.encode())))  # matches the same in bytes
    return finders


def _grep_filter(pattern: str, *, ignore_case: bool) -> Filter:
    """Return a filter that searches *pattern* in all strings of a record, at any depth. Keys are not searched."""
    search = re.compile(pattern, re.IGNORECASE if ignore_case else 0).search

    def holds(record: dict[Any, Any]) -> bool:
        for value in record.values():
            if isinstance(value, str):
                if search(value) is not None:
                    return True
            elif isinstance(value, (dict, list)) and is_found(search, value):
                return True
        return False

    return holds
