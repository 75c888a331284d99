"""
What an alert reports when it has fired: as an object of JSON, and as a text for people.

Always true:
- a firing has the same id whenever it is reported: the same messages of the same journal give the same id;
- a report is bounded, whatever producers have sent: `SAMPLES` first and last messages, each cut at `SAMPLE_CHARS`;
- it is valid JSON in UTF-8.

Not here: when an alert fires (hub.alerts.window), the form for a web hook (hub.alerts.webhook).
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hub.alerts.search import link_to
from hub.alerts.table import Alert
from hub.alerts.window import Fired, Match
from hub.control.pieces import pieces
from hub.journal.reader import Reader
from hub.message import Batch, Message
from hub.quantities import counted
from hub.query.level import LEVELS, rank_of
from hub.query.rendering import render_json, render_text, rfc3339

SAMPLES = 3
SAMPLE_CHARS = 1000
MESSAGE_CHARS = 4096
"""A sample has its message as JSON too, unless that is longer."""


class Firing(msgspec.Struct, frozen=True):
    """One firing of an alert. Times are in RFC 3339. *matches*: those since it has fired before, *count* included."""

    id: str
    alert: str
    test: bool
    text: str
    host: str
    count: int
    matches: int
    within_s: float | None
    first: dict[str, Any]
    last: dict[str, Any]
    samples: list[dict[str, Any]]
    link: str | None

    def as_json(self) -> bytes:
        """Return it as an object of JSON."""
        return msgspec.json.encode(self)

    def as_text(self, chars_max: int) -> str:
        """Return it as lines of text: what has happened, the samples, the link."""
        end = "" if self.link is None else f"\n{self.link}"
        lines = [self.text, *(f"{sample['received']} {sample['tag']} {sample['text']}" for sample in self.samples)]
        return "\n".join(lines)[: max(chars_max - len(end), 0)] + end


def firing_of(
    alert: Alert, hub_id: bytes, fired: Fired, messages: Sequence[Message], *, is_test: bool = False
) -> Firing:
    """Return the report of *alert* when it has *fired*. *messages* are samples of what it has counted."""
    within = None if alert.within is None or alert.count == 1 else alert.within
    text = f"{alert.name}: {counted(fired.count, 'message')}{'' if within is None else f' within {within.text}'}"
    if fired.matches > fired.count:
        text += f", {fired.matches:,} since it has fired before"
    return Firing(
        id=id_of(alert, hub_id, fired.last),
        alert=str(alert.name),
        test=is_test,
        text=f"test of {text}" if is_test else text,
        host=socket.gethostname(),
        count=fired.count,
        matches=fired.matches,
        within_s=None if within is None else float(within),
        first=_place(fired.first),
        last=_place(fired.last),
        samples=[_sample(message) for message in messages],
        link=link_to(alert, fired.first.received, fired.last.received),
    )


def id_of(alert: Alert, hub_id: bytes, last: Match) -> str:
    """
    Return the id of the firing of *alert* that *last* causes. Sequences that a power cut took back are given again, so
    the time of receipt counts too.
    """
    digest = hashlib.blake2b(hub_id + last.received.to_bytes(8, "big"), digest_size=6).hexdigest()
    return f"{alert.name}-{last.sequence}-{digest}"


def samples_of(fired: Fired, read_after: Callable[[int], Reader]) -> list[Message]:
    """Return the first and last messages that made an alert fire, as far as the journal still has them."""
    wanted = fired.sequences
    if len(wanted) > 2 * SAMPLES:
        wanted = (*wanted[:SAMPLES], *wanted[-SAMPLES:])
    return [message for sequence in wanted if (message := _message(sequence, read_after)) is not None]


def trial_of(alert: Alert, hub_id: bytes, now: int) -> Firing:
    """Return a firing for a test: one message, which is in no journal."""
    here = Match(now, 0)
    message = Message("mpsr.alert", now, {"message": "This is a test: nothing has happened."}, 0, now)
    return firing_of(alert, hub_id, Fired(here, here, 1, 1, (0,)), [message], is_test=True)


def _message(sequence: int, read_after: Callable[[int], Reader]) -> Message | None:
    reader = read_after(sequence - 1)
    try:
        found = next(reader.read(follow=True), None)
    finally:
        reader.close()
    if not isinstance(found, Batch):
        return None
    for piece in pieces(found):
        for message in piece.messages() if sequence < piece.sequence + piece.count else ():
            if message.sequence == sequence:
                return message
    return None


def _place(match: Match) -> dict[str, Any]:
    return {"sequence": match.sequence, "received": rfc3339(match.received)}


def _sample(message: Message) -> dict[str, Any]:
    rank, text, shown = rank_of(message.record), render_text(message), render_json(message)
    sample: dict[str, Any] = {
        "sequence": message.sequence,
        "received": rfc3339(message.received),
        "tag": _utf8(message.tag),
        "level": None if rank is None else LEVELS[rank],
        "text": _utf8(text[:SAMPLE_CHARS]),
    }
    if len(shown) <= MESSAGE_CHARS:
        sample["message"] = msgspec.Raw(shown.encode("utf-8", "replace"))
    return sample


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
