"""
Sends the records of a log library to the hub, through a `Producer`.

Always true:
- a record is sent whatever it holds (producers.logs.sanitize);
- a message does not wait while there is room. All messages of one outage together wait at most `wait_s_max`
  (producers.logs.wait_budget); after that messages are dropped, and the number is reported when the hub is back;
- a closed emitter opens again when a record is sent, as a log file does: `logging.config.dictConfig` closes every
  handler, and exit hooks log too.

Not here: the contents of a record (producers.logs.handler, producers.logs.renderer); threads, forks, signals and the
end of the process (producers.blocking).
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from hub.wire.frame import TAG_BYTES_MAX
from producers.blocking import Producer
from producers.errors import BacklogFull, BadRecord, NotAcknowledged, ProducerClosed
from producers.guard import Reentered
from producers.logs.sanitize import pack_sanitized
from producers.logs.wait_budget import WaitBudget
from producers.record import pack, pack_entry

WAIT_S_MAX = 1.0
TAG_VARIABLE = "MPSR_TAG"


def tag_of_process() -> str | None:
    """Return ``$MPSR_TAG``, which `mpsr spawn` sets for each process, or None if it is unset or empty."""
    return os.environ.get(TAG_VARIABLE) or None


class Emitter:
    """
    Sends to the hub at *path*, or through *producer*, which its owner then has to close. *dropped* is the number of
    messages for which there was no room.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        producer: Producer | None = None,
        wait_s_max: float = WAIT_S_MAX,
    ) -> None:
        self._is_owner = producer is None
        self._wait_budget = WaitBudget(wait_s_max)
        self.dropped: int = 0
        self._successors: dict[Producer, Producer] = {}
        self.producer: Producer = Producer(path) if producer is None else producer

    def send(self, record: dict[Any, Any], tag: str | None, time_ns: int | None) -> None:
        """Send one message. Raises ProducerClosed if a producer that the emitter does not own was closed."""
        self.put(self.tag_bytes(tag), pack_whatever(record, time_ns))

    def put(self, tag: bytes, entry: bytes) -> None:
        """Send one message that is an *entry* already, under a tag of `tag_bytes`. Raises as `send` does."""
        try:
            self.producer.put(tag, entry, 0.0)
        except (BacklogFull, ProducerClosed):
            self._put_waiting(tag, entry)

    def tag_bytes(self, tag: str | None) -> bytes:
        """Return the bytes of *tag*, of a valid one in place of an invalid one; None: the default tag."""
        try:
            return self.producer.tag_bytes(tag)
        except BadRecord:
            return self.producer.tag_bytes(_fitting(tag))

    def flush(self, timeout: float) -> None:
        """Wait up to *timeout* seconds until everything is on the hub's disk. Do not wait if the hub is away."""
        if not self.producer.stats()["last_error"]:
            self.producer.settle(timeout)  # `flush` would use up the report of drops

    def close(self, timeout: float) -> None:
        """
        Close the producer if the emitter owns it, else flush it. Messages that are lost are reported on standard error.
        """
        if not self._is_owner:
            self.flush(timeout)
            return
        try:
            self.producer.close(timeout, expects_hub=False)
        except NotAcknowledged as late:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"mpsr: {late}\n")

    def _put_waiting(self, tag: bytes, entry: bytes) -> None:
        who, producer = object(), self.producer
        stats = producer.stats()
        wait_s = self._wait_budget.begin(who, acknowledged=stats["acknowledged"], pending=stats["pending"])
        try:
            producer.put(tag, entry, wait_s)
        except BacklogFull:
            self.dropped += 1
            with contextlib.suppress(Reentered):  # in a signal handler that interrupted the producer
                producer.drop()
        except ProducerClosed:
            self._open_again(producer)
            self.producer.put(tag, entry, 0.0)
        finally:
            self._wait_budget.end(who)

    def _open_again(self, closed: Producer) -> None:
        if not self._is_owner:
            raise ProducerClosed
        # `setdefault` is one step: concurrent threads get the same producer, and no lock is held across a fork.
        producer = self._successors.setdefault(closed, Producer(closed.path))
        self._successors = {closed: producer}
        self.producer = producer


def pack_whatever(record: dict[Any, Any], time_ns: int | None) -> bytes:
    """Return the entry of *record*, whatever it holds."""
    try:
        return pack_entry(pack(record), time_ns)
    except Exception:  # noqa: BLE001  besides its own, msgspec raises what a user's class raises
        return pack_entry(pack_sanitized(record), time_ns)


def _fitting(tag: str | None) -> str | None:
    return None if tag is None else tag.encode(errors="backslashreplace")[:TAG_BYTES_MAX].decode(errors="ignore")
