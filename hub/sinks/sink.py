"""
The contract of a sink: what it does for its runner (`Sink`, `GroupSink` or `StoredSink`), what its runner does for it
(`Host`), and how it fails.

Not here: the runner (hub.sinks.runner), the types (hub.sinks.table). docs/extending.md shows a sink of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from hub.errors import MpsrError
from hub.message import Message
from hub.query.found import Group
from hub.sinks.stored import Stored
from hub.sinks.waker import Waker


class Halted(MpsrError):
    """The sink is being stopped: messages that are not delivered are delivered by the next one."""


class SinkFault(MpsrError):
    """
    The destination does not take the messages now. They are delivered again later, *after_s* seconds later at the
    earliest.
    """

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Host(Protocol):
    """The part of its runner that a sink may use."""

    waker: Waker
    """Woken when the sink is to stop, so that it can wait for that and its destination at once."""
    kept: dict[str, Any]
    """What the sinks of this table pass on to the one that is made after a fault; not across a restart."""
    hub_id: bytes
    """Identifies the journal, whose sequences are unique in it: 16 bytes."""

    boot_id: bytes
    """
    Empty with durability ``fsync``. With ``relaxed``, a power cut may cost the journal messages that were delivered,
    and give their sequences to others. So ids made of sequences need this too: it is another one after each boot.
    """

    @property
    def rewinds(self) -> int:
        """
        How often the sink was rewound, also before a restart. Ids of what is delivered differ with it: what is
        delivered again after a rewind is meant to arrive again.
        """

    @property
    def is_halted(self) -> bool:
        """Whether the sink must return at once, with `Halted`."""

    def rest(self) -> None:
        """
        Leave the interpreter to the hub, if the sink has used it for some time. Called after some hundred messages.
        """

    def checkpoint(self) -> None:
        """
        Store durably how far it has delivered, and what `Sink.settle` returns. Messages that are being delivered do not
        count.
        """

    def go_back(self, after: int, detail: bytes) -> None:
        """
        Let a fresh sink deliver everything after the sequence *after* again: the destination has lost it. *detail* is
        what that one gets. Does not return.
        """

    def refuse(self, message: Message, reason: str) -> None:
        """Store *message* as one that can never be delivered."""

    def lose(self, count: int, reason: str) -> None:
        """Report *count* messages as lost: the destination has refused some, and does not say which."""

    def refuse_stored(self, stored: Stored, reason: str) -> None:
        """Store all messages of *stored* as such, in one commit."""


class SinkBase(Protocol):
    """
    A way out, made for one table: a `Sink`, a `GroupSink` or a `StoredSink`. All of it is called on one thread, and may
    block there.

    After an error it is closed, and a fresh one continues after the cursor.
    """

    safe: int
    """The last sequence that is safe although `deliver` has raised; 0 if that is not known."""

    def open(self, after: int, detail: bytes) -> None:
        """Open the destination. It has all messages up to *after*; *detail* is what `settle` returned then."""

    def settle(self) -> bytes:
        """
        Make durable what was delivered: wait until the destination has confirmed all of it. Return what `open` needs
        after a crash. Raises `SinkFault`, OSError or `Halted`.
        """

    def idle(self, now: int) -> None:
        """Do what is due at *now*, in nanoseconds since the epoch. All that the journal holds is delivered."""

    def close(self) -> None:
        """Close everything. Never raises."""


class Sink(SinkBase, Protocol):
    """A sink that takes decoded messages."""

    messages_max: int
    """How many messages `deliver` takes at once."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Deliver *messages*, in order. Raises `SinkFault`, OSError or `Halted`: they come again, all of them."""


@runtime_checkable
class GroupSink(SinkBase, Protocol):
    """
    A sink that takes decoded messages in groups, each from one batch, so that it can format many at once
    (`hub.query.rendering.json_of`). That it has `deliver_groups` makes it one.
    """

    groups_max: int
    """How many groups `deliver_groups` takes at once."""

    def deliver_groups(self, groups: Sequence[Group]) -> None:
        """Deliver the messages of *groups*, in order. Raises `SinkFault`, OSError or `Halted`: all come again."""


@runtime_checkable
class StoredSink(SinkBase, Protocol):
    """
    A sink that takes batches as they are stored, without a decoded message. That it has `deliver_stored` makes it one.

    - What it gets after the same cursor is the same bytes, also after a crash (hub.sinks.stored): the first sequence of
      a batch, or its first and last, can be its id at the destination.
    - It may keep batches in flight when it returns: `settle` waits for them, `safe` is the last sequence of those that
      are confirmed with everything before them. A fault of one in flight may be raised by any later call.
    - The first call after `open` returns when its batches are confirmed: only then the sink counts as working.
    - `idle` is called when all that the journal holds was given to it, and at least once a second then.
    - An entry of more than `entry_bytes_max` is a dead letter before it gets here. What the destination refuses, it
      gives to `Host.refuse_stored`, before `settle` covers it.
    """

    batch_bytes_max: int
    """The size of the tag and the entries of one batch. A larger one is cut; a larger entry is a batch by itself."""
    entry_bytes_max: int
    """The size of one entry. A larger one is never delivered."""

    def deliver_stored(self, batches: Sequence[Stored]) -> None:
        """Deliver *batches*, in order. Raises `SinkFault`, OSError or `Halted`: those after `safe` come again."""


def reason_of(error: Exception) -> str:
    """Return why a sink cannot deliver, for people."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, MpsrError) else repr(error)
