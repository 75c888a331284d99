"""
What `mpsr spawn` reports on standard error: a missing hub, lost messages, an output that accepts nothing more.

Always true: messages that were lost are counted in one line.

Not here: what the children write and do (producers.spawn.console).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os

from hub.cli.output import complain
from producers.blocking import Producer
from producers.errors import NotAcknowledged, NotConnected, NotTrusted, ProducerError
from producers.spawn.delivery import Delivery

NO_HUB_S = 1.0
FLUSH_TIMEOUT_S = 5.0


def lost_messages(delivery: Delivery, late: NotAcknowledged | None) -> NotAcknowledged | None:
    """Return one error for all messages that were lost, or None."""
    if not delivery.dropped:
        return late
    if late is None:
        return NotAcknowledged(0, "", delivery.dropped)
    return NotAcknowledged(late.count, late.last_error, late.dropped + delivery.dropped)


def report_lost(lost: NotAcknowledged, *, may_lack_hub: bool, socket: str) -> None:
    """Report messages that were lost, and the remedy if there is no hub."""
    has_remedy = may_lack_hub and not os.path.lexists(socket)
    complain(f"{lost}: start `mpsr hub`, or add --hub" if has_remedy else lost)


def report_output(error: OSError) -> None:
    """Report that standard output accepts nothing more. It is not a fault if its reader has ended."""
    if error.errno != errno.EPIPE:
        with contextlib.suppress(OSError):  # standard error is on the same terminal, or disk
            complain(f"standard output: {error.strerror}; nothing more is shown here")


def close(producer: Producer, *, has_own_hub: bool) -> NotAcknowledged | None:
    """
    Close the producer; return the error for messages that were not acknowledged.

    With our own hub, wait for the hub first: it may be restarting. Do not wait for a hub that has not even a socket
    file, as at the exit of any other producer.
    """
    try:
        if has_own_hub:
            producer.flush(FLUSH_TIMEOUT_S)
    except NotAcknowledged:
        pass
    try:
        producer.close(FLUSH_TIMEOUT_S, expects_hub=False)
    except NotAcknowledged as late:
        return late
    return None


def show_warnings(producer: Producer) -> None:
    """
    Show the producer's warning about its spool as a line of ours. If the hub is away, `warn_without_hub` reports that.
    """

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if producer.stats()["state"] == "connected":
                complain(record.getMessage())

    logger = logging.getLogger("mpsr.producers")
    logger.addHandler(Shown())
    logger.propagate = False


async def warn_without_hub(producer: Producer) -> None:
    """Report a missing hub."""
    try:
        await asyncio.to_thread(producer.connect, NO_HUB_S)
    except NotTrusted as error:
        complain(f"{error}; the output waits")
    except NotConnected as error:
        where = ", in memory only" if producer.stats()["spool_fault"] else ""
        complain(f"{error}; the output waits for one{where} (start `mpsr hub`, or add --hub)")
    except ProducerError:  # the run has ended
        pass
