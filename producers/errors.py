"""
Every error of the producers, sorted by who must act.

    ProducerError
    ├── BadRecord           the caller: this record cannot be sent as it is; nothing was kept of it
    ├── ProducerClosed      the caller: it was closed before
    ├── BacklogFull         for now: no room within the time given; the record was not kept
    ├── NotAcknowledged     for now: the hub has not confirmed everything within the time given, and that is still
    │                       being tried; or messages were dropped
    ├── NotConnected        the operator: no hub answers at the path
    │   └── NotTrusted      another user could answer there, or does
    ├── CommandFailed       the hub answered a command with an error
    └── ChildDied           the caller: the child that was asked cannot answer any more

Errors carry fields; the sentence is in ``__str__``.
"""

from __future__ import annotations


class ProducerError(Exception):
    """Anything this package raises on purpose."""


class BadRecord(ProducerError, ValueError):
    """A record that msgpack cannot hold; *path* names the place, as in ``user.tags[2]``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"record cannot be sent: {self.path or 'the record'}: {self.reason}"


class ProducerClosed(ProducerError):
    """Sending after close."""

    def __str__(self) -> str:
        return "the producer is closed"


class BacklogFull(ProducerError):
    """There was no room for a record: the hub is away or slow, and *held_bytes* wait for it."""

    def __init__(self, held_bytes: int, last_error: str) -> None:
        super().__init__(held_bytes, last_error)
        self.held_bytes, self.last_error = held_bytes, last_error

    def __str__(self) -> str:
        return f"no room for another record: {self.held_bytes} bytes wait for the hub{_because(self.last_error)}"


class NotAcknowledged(ProducerError, TimeoutError):
    """
    *count* messages are not acknowledged yet; *last_error* says why the hub cannot be reached, if it cannot.

    *dropped* messages were dropped for want of room: they never reached the hub. Each is reported by one flush.
    """

    def __init__(self, count: int, last_error: str, dropped: int = 0) -> None:
        super().__init__(count, last_error, dropped)
        self.count, self.last_error, self.dropped = count, last_error, dropped

    def __str__(self) -> str:
        late = f"{_messages(self.count)} not acknowledged{_because(self.last_error)}"
        if not self.dropped:
            return late
        if not self.count:
            return f"{_messages(self.dropped, 'was', 'were')} dropped for want of room"
        return f"{late}, and {self.dropped} {'was' if self.dropped == 1 else 'were'} dropped for want of room"


class NotConnected(ProducerError, ConnectionError):
    """No hub answers at *path*."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"no hub answers at {self.path}: {self.reason}"


class NotTrusted(NotConnected):
    """Another user could put a socket of his own at *path*, or has: nothing is sent there."""

    def __str__(self) -> str:
        return f"the hub at {self.path} is not trusted: {self.reason}"


class CommandFailed(ProducerError):
    """The hub's answer to a command is an error: JSON-RPC *code* and *message*."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class ChildDied(ProducerError):
    """
    The child cannot answer any more.

    *code* is its exit code, negative for a signal, None if it lives and has only closed its standard output; *stderr*
    is what it last said.
    """

    def __init__(self, command: str, code: int | None, stderr: str) -> None:
        super().__init__(command, code, stderr)
        self.command, self.code, self.stderr = command, code, stderr

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
