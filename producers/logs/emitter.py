"""
Where a log library leaves its records: a `Producer`, behind which nothing of an application's log is lost or stuck.

Always true:
- a record is sent whatever it holds (producers.logs.sanitize);
- one message costs the application no wait while there is room, and all messages of one outage `wait_s_max` in total
  (producers.logs.wait_budget); after that they are dropped, and the hub is told how many once it is back;
- a closed outlet opens again when something is left there, as a log file does: `logging.config.dictConfig` closes every
  handler there is, and hooks that run at exit log too.

Not here: what is in a record (producers.logs.handler, producers.logs.renderer); threads, forks, signals and the end of
the process (producers.blocking).
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
from producers.logs.sanitize import pack_mended
from producers.logs.wait_budget import Patience
from producers.record import FAULTS, pack

WAIT_S_MAX = 1.0
TAG_VARIABLE = "MPSR_TAG"


def tag_of_process() -> str | None:
    """Return ``$MPSR_TAG``, which `mpsr spawn` gives each process; None if there is none."""
    return os.environ.get(TAG_VARIABLE) or None


class Outlet:
    """
    Sends to the hub at *path*, or through *producer*, which its owner closes then.

    *dropped* counts the messages that found no room.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        producer: Producer | None = None,
        wait_s_max: float = WAIT_S_MAX,
    ) -> None:
        self._path = path
        self._is_owner = producer is None
        self._patience = Patience(wait_s_max)
        self.dropped = 0
        self._successors: dict[Producer, Producer] = {}
        self.producer = Producer(path) if producer is None else producer

    def send(self, record: dict[Any, Any], tag: str | None, time_ns: int | None) -> None:
        """Send one message. Raises ProducerClosed if the producer is somebody else's, and was closed."""
        try:
            packed = pack(record)
        except FAULTS:
            packed = pack_mended(record)
        try:
            self.producer.send_packed(packed, tag=tag, time_ns=time_ns, timeout=0.0)
        except (BacklogFull, ProducerClosed):
            self._send_patiently(packed, tag, time_ns)
        except BadRecord:  # too large, or under a tag that is none
            self._send_patiently(pack_mended(record), _fitting(tag), time_ns)

    def flush(self, timeout: float) -> None:
        """Wait until everything is on the hub's disk, for *timeout* seconds, and not for a hub that is not there."""
        if not self.producer.stats()["last_error"]:
            self.producer.settle(timeout)  # not `flush`: what was dropped is for the application to hear from its own

    def close(self, timeout: float) -> None:
        """Close the producer, if it is our own; say so if that costs messages."""
        if not self._is_owner:
            self.flush(timeout)
            return
        try:
            self.producer.close(timeout)
        except NotAcknowledged as late:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"mpsr: {late}\n")

    def _send_patiently(self, packed: bytes, tag: str | None, time_ns: int | None) -> None:
        who, producer = object(), self.producer
        stats = producer.stats()
        wait_s = self._patience.begin(who, acknowledged=stats["acknowledged"], pending=stats["pending"])
        try:
            producer.send_packed(packed, tag=tag, time_ns=time_ns, timeout=wait_s)
        except BacklogFull:
            self.dropped += 1
            with contextlib.suppress(Reentered):  # in a signal handler that met the producer at work
                producer.drop()
        except ProducerClosed:
            self._open_again(producer)
            self.producer.send_packed(packed, tag=tag, time_ns=time_ns, timeout=0.0)
        finally:
            self._patience.end(who)

    def _open_again(self, closed: Producer) -> None:
        if not self._is_owner:
            raise ProducerClosed
        # `setdefault` is one step: threads that come at once use the same one, and no lock is held across a fork.
        producer = self._successors.setdefault(closed, Producer(self._path))
        self._successors = {closed: producer}
        self.producer = producer


def _fitting(tag: str | None) -> str | None:
    if tag is None:
        return None
    return tag.encode(errors="backslashreplace")[:TAG_BYTES_MAX].decode(errors="ignore")
