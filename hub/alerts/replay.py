"""
Finds when an alert would have fired, in a journal that is read again. Nothing is reported.

Always true: it decides as the alert does that runs (hub.alerts.watch), if that had begun with the first message.

Not here: the output (hub.cli.alerts).
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.alerts.table import Alert
from hub.alerts.watch import rule_of
from hub.alerts.window import Fired, Window
from hub.message import Batch, Message
from hub.query.indexed import batches


def replay(alert: Alert, folder: str, since: int | None) -> Iterator[tuple[Fired, Message]]:
    """
    Yield each firing of *alert* over what the journal in *folder* has received since *since*, and its last message.
    Raises JournalError.
    """
    query, window = alert.query(since=since), Window(rule_of(alert))
    found = (batch for batch in batches(folder, query, 0) if isinstance(batch, Batch))  # gaps match nothing
    for message in query.messages(found):
        fired = window.match(message.received, message.sequence)
        if fired is not None:
            yield fired, message
