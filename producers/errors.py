"""
All errors of the producers, sorted by who must act.

    ProducerError
    ├── BadRecord           the caller: this record cannot be sent; nothing of it was kept
    ├── ProducerClosed      the caller: the producer was closed before
    ├── BacklogFull         temporary: no room within the time limit; the record was not kept
    ├── NotAcknowledged     temporary: the hub has not acknowledged everything within the time limit, and sending goes
    │                       on; or messages were dropped
    ├── ClientClosed        the caller: the client was closed before, or meanwhile
    ├── NotConnected        the operator: no hub answers at the path
    │   ├── NotTrusted      the operator: another user answers there, or could
    │   └── AnswerLost      the caller: a command was sent and not answered; it may have been carried out
    ├── CommandFailed       the caller: the hub answered a command with an error
    └── ChildDied           the caller: the child process cannot answer any more

Errors carry fields; the sentence is in ``__str__``.
"""

from __future__ import annotations


class ProducerError(Exception):
    """Base class of all errors that this package raises on purpose."""


class BadRecord(ProducerError, ValueError):
    """A record that msgpack cannot hold, or that is too large. *path* is the place, as in ``user.tags[2]``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path: str = path
        self.reason: str = reason

    def __str__(self) -> str:
        return f"record cannot be sent: {self.path or 'the record'}: {self.reason}"


class ProducerClosed(ProducerError):
    """The producer was used after `close`."""

    def __str__(self) -> str:
        return "the producer is closed"


class BacklogFull(ProducerError):
    """There was no room for a record. The hub is away or slow, and *held_bytes* wait for it."""

    def __init__(self, held_bytes: int, last_error: str) -> None:
        super().__init__(held_bytes, last_error)
        self.held_bytes: int = held_bytes
        self.last_error: str = last_error

    def __str__(self) -> str:
        return f"no room for another record: {self.held_bytes} bytes wait for the hub{_because(self.last_error)}"


class NotAcknowledged(ProducerError, TimeoutError):
    """
    *count* messages are not acknowledged yet. *last_error* is why there is no connection, empty if there is one.

    *dropped* messages were dropped for lack of room and never reached the hub. Each is reported by one flush.
    """

    def __init__(self, count: int, last_error: str, dropped: int = 0) -> None:
        super().__init__(count, last_error, dropped)
        self.count: int = count
        self.last_error: str = last_error
        self.dropped: int = dropped

    def __str__(self) -> str:
        late = f"{_messages(self.count)} not acknowledged{_because(self.last_error)}"
        if not self.dropped:
            return late
        if not self.count:
            return f"{_messages(self.dropped, 'was', 'were')} dropped for lack of room"
        return f"{late}, and {self.dropped} {'was' if self.dropped == 1 else 'were'} dropped for lack of room"


class NotConnected(ProducerError, ConnectionError):
    """No hub answers at *path*."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path: str = path
        self.reason: str = reason

    def __str__(self) -> str:
        return f"no hub answers at {self.path}: {self.reason}"


class NotTrusted(NotConnected):
    """Another user's socket is at *path*, or another user could put one there. Nothing is sent."""

    def __str__(self) -> str:
        return f"the hub at {self.path} is not trusted: {self.reason}"


class AnswerLost(NotConnected):
    """
    The hub was asked for *method*, and the connection broke before it answered, or the time was over. It is not known
    whether the hub has carried it out.
    """

    def __init__(self, path: str, reason: str, method: str) -> None:
        super(NotConnected, self).__init__(path, reason, method)  # all of them: errors travel between processes
        self.path: str = path
        self.reason: str = reason
        self.method: str = method

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.method!r} was sent, and may have been carried out"


class ClientClosed(ProducerError):
    """The client was closed before the call, or while it was under way."""

    def __str__(self) -> str:
        return "the client is closed"


class CommandFailed(ProducerError):
    """The hub answered a command with an error: JSON-RPC *code*, *message* and *data* (None if there is none)."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(code, message, data)
        self.code: int = code
        self.message: str = message
        self.data: object = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class ChildDied(ProducerError):
    """
    The child process cannot answer any more.

    *code* is its exit code, negative for a signal. It is None if the child still runs but has closed its standard
    output or has written a line over the limit. *stderr* is the last lines of its standard error, or the reason.
    """

    def __init__(self, command: str, code: int | None, stderr: str) -> None:
        super().__init__(command, code, stderr)
        self.command: str = command
        self.code: int | None = code
        self.stderr: str = stderr

    def __str__(self) -> str:
        if self.code is None:
            how = "has closed its standard output"
        elif self.code < 0:
            how = f"was ended by signal {-self.code}"
        else:
            how = f"has ended with exit code {self.code}"
        return f"{self.command} {how}" + (f": {self.stderr}" if self.stderr else "")


def _messages(count: int, one: str = "is", many: str = "are") -> str:
    return f"1 message {one}" if count == 1 else f"{count} messages {many}"


def _because(last_error: str) -> str:
    return f" ({last_error})" if last_error else ""
