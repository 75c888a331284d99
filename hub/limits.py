"""
Rate limits: how many messages and bytes a second a user may send under a tag.

Each rule names tags (a glob) and users; the first that applies to a batch counts, and one bucket for each user and tag
is filled at its rate. It holds one second's worth. A batch is let through while its bucket is not empty, even if it is
larger than what is in it: the bucket is then in debt, and the next batch waits for longer.

Always true:
- on average, no more is let through than a rule says, whatever the sizes of the batches are;
- without a rule that applies, nothing is counted, and nothing kept: tags that no rule is for cost no bucket its place;
- at most `BUCKETS_MAX` buckets exist. Beyond it, the least recently used one is forgotten, and begins full again.

Not here: waiting, and reporting what is dropped (hub.intake), the sizes of tags and frames (hub.wire.frame), limits of
memory (hub.budget).
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

BUCKETS_MAX = 10_000
"""One costs about 300 bytes. A client may invent tags."""
_KEY_BYTES_MAX = 64  # of a tag; of a longer one, the key is a digest: 10,000 tags of 4 KiB would take 40 MiB
_MARGIN_S = 0.001  # at the end of a wait, the bucket is not empty by a rounding
When = Literal["block", "drop"]
"""What happens to a message over the limit: its sender waits, or it is dropped and reported as lost."""


class Limit(NamedTuple):
    """One rule. *tag* is a glob; *uid* None means every user. A rate of None is no limit; one of them is given."""

    tag: str = "*"
    uid: int | None = None
    messages_per_s: float | None = None
    bytes_per_s: float | None = None
    when: When = "block"


class _Bucket:
    __slots__ = ("at", "bytes", "messages")

    def __init__(self, limit: Limit, now: float) -> None:
        self.messages = limit.messages_per_s or 0.0
        self.bytes = limit.bytes_per_s or 0.0
        self.at = now

    def fill(self, limit: Limit, now: float) -> None:
        elapsed, self.at = now - self.at, now
        if limit.messages_per_s is not None:
            self.messages = min(self.messages + elapsed * limit.messages_per_s, limit.messages_per_s)
        if limit.bytes_per_s is not None:
            self.bytes = min(self.bytes + elapsed * limit.bytes_per_s, limit.bytes_per_s)

    def wait_s(self, limit: Limit) -> float:
        """Return the seconds until neither is empty; 0 if neither is."""
        wait_s = 0.0
        if limit.messages_per_s is not None and self.messages <= 0:
            wait_s = _MARGIN_S - self.messages / limit.messages_per_s
        if limit.bytes_per_s is not None and self.bytes <= 0:
            wait_s = max(wait_s, _MARGIN_S - self.bytes / limit.bytes_per_s)
        return wait_s


class Limits:
    """The rules in force. *clock* returns seconds, and serves the tests."""

    def __init__(self, rules: Sequence[Limit] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.change(rules)

    def change(self, rules: Sequence[Limit]) -> None:
        """Put *rules* into force; without any, what waits is let through. Every bucket begins full."""
        self._rules = [(re.compile(fnmatch.translate(rule.tag)).match, rule) for rule in rules]
        self._buckets: OrderedDict[tuple[int, bytes], tuple[Limit, _Bucket]] = OrderedDict()
        self.are_any: bool = bool(self._rules)
        """Whether there are rules at all."""

    def take(self, uid: int, tag: bytes, count: int, size: int) -> tuple[float, When]:
        """
        Take *count* messages of *size* bytes from their bucket and return 0. If it is empty, take nothing and return
        the seconds until it is not, and what the rule wants to happen.
        """
        found = self._bucket_of(uid, tag)
        if found is None:
            return 0.0, "block"
        limit, bucket = found
        wait_s = bucket.wait_s(limit)
        if not wait_s:
            bucket.messages -= count
            bucket.bytes -= size
        return wait_s, limit.when

    def look(self, uid: int, tag: bytes) -> tuple[float, When]:
        """Return the seconds until the bucket of a user and a tag is not empty, and what the rule wants to happen."""
        found = self._bucket_of(uid, tag)
        return (0.0, "block") if found is None else (found[1].wait_s(found[0]), found[0].when)

    def _bucket_of(self, uid: int, tag: bytes) -> tuple[Limit, _Bucket] | None:
        """Return the rule for a user and a tag, and its bucket, filled up to now; None if there is no rule."""
        now = self._clock()
        key = uid, tag if len(tag) <= _KEY_BYTES_MAX else hashlib.blake2b(tag, digest_size=_KEY_BYTES_MAX).digest()
        found = self._buckets.get(key)
        if found is None:
            limit = self._rule_of(uid, tag.decode("utf-8", "replace"))
            if limit is None:
                return None
            found = self._buckets[key] = limit, _Bucket(limit, now)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        found[1].fill(found[0], now)
        return found

    def _rule_of(self, uid: int, tag: str) -> Limit | None:
        return next((rule for match, rule in self._rules if match(tag) and (rule.uid is None or rule.uid == uid)), None)
