"""
The errors that a caller of `hub` and an operator of `mpsr hub` meet, grouped by who must act.

    MpsrError
    ├── UsageError                  the caller asked for something impossible: exit code 2
    │   ├── ConfigError             a flag, a variable or the file has an impossible value
    │   ├── SocketPathTooLong
    │   ├── UnknownGroup
    │   ├── BadCommand              a function cannot be a command, or its name is taken
    │   └── ReceiverTaken           a second receiver asked for the inbox
    ├── SocketError                 the operator: the hub cannot have its socket
    │   ├── SocketInUse             a live hub answers there (its pid, if known)
    │   └── NotASocket              something else is at the path; it is not touched
    ├── SourceError                 the operator: a source that is configured cannot be used
    ├── JournalError                the operator: our disk
    │   ├── JournalLocked           another hub has it
    │   ├── JournalUnusable         cannot be read or written as it is
    │   ├── JournalTooNew           written by a newer mpsr
    │   ├── JournalLost             its lock file is gone: another hub may write to it, so this one must not
    │   └── JournalUnavailable      temporary: no space, a failed sync; the caller keeps its batches
    ├── CommandError                the caller of a command: its code, message and data are the reply
    │   └── InvalidParams           the parameters are not those of the command
    └── HubClosed                   a source inside the hub: the hub was stopped; this one never leaves the hub

An error of a producer is not an exception but data: `hub.message.Loss`. `CloseConnection` is not an error.

Not here: the errors of `mpsr spawn --hub` and `mpsr install` (subclasses in hub.cli.ownhub and hub.cli.systemctl), the
errors between a sink and its runner (hub.sinks.sink), the errors of the clients (producers.errors), and exceptions
that another module translates: `hub.trust.Untrusted` becomes a SocketError, and `hub.natsclient.NatsFault` the fault of
a source or a sink.

Errors carry fields; the sentence is in ``__str__``.
"""

from __future__ import annotations


class MpsrError(Exception):
    """Base class of the errors that this package raises on purpose."""


class UsageError(MpsrError):
    """The request was invalid. Nothing has been changed."""


class ConfigError(UsageError):
    """An invalid setting of `mpsr hub`; *origin* is the file, the variable or the flag."""

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(origin, reason)
        self.origin: str = origin
        self.reason: str = reason

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class SocketPathTooLong(UsageError):
    """The path exceeds the length of a socket address (unix(7): 108 bytes with the final NUL on Linux)."""

    def __init__(self, path: str, length: int, limit: int) -> None:
        super().__init__(path, length, limit)
        self.path: str = path
        self.length: int = length
        self.limit: int = limit

    def __str__(self) -> str:
        return f"socket path is {self.length} bytes long, {self.limit} at most: {self.path} (choose a shorter --socket)"


class UnknownGroup(UsageError):
    """The group given for the socket does not exist on this machine."""

    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.group: str = group

    def __str__(self) -> str:
        return f"no such group: {self.group} (see `getent group`, or leave --group out)"


class BadCommand(UsageError):
    """A function cannot be the command *name*: *reason* gives the cause, and what to write instead."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name: str = name
        self.reason: str = reason

    def __str__(self) -> str:
        return f"command {self.name!r}: {self.reason}"


class ReceiverTaken(UsageError):
    """The hub already has its receiver."""

    def __str__(self) -> str:
        return "this hub already has its receiver; there can be only one (end that loop first)"


class SocketError(MpsrError):
    """The hub cannot listen on its socket."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path: str = path
        self.reason: str = reason

    def __str__(self) -> str:
        return f"cannot listen on {self.path}: {self.reason}"


class SocketInUse(SocketError):
    """A live hub answers at the path."""

    def __init__(self, path: str, pid: int | None) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(path, f"{owner} is already listening there (stop it, or choose another --socket)")
        self.pid: int | None = pid


class NotASocket(SocketError):
    """A file, directory or symlink is at the path. It was not touched."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(path, f"a {kind} is already there, and it is not ours to remove (choose another --socket)")
        self.kind: str = kind


class SourceError(MpsrError):
    """A source cannot be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path: str = path
        self.reason: str = reason

    def __str__(self) -> str:
        return f"source {self.path}: {self.reason}"


class JournalError(MpsrError):
    """The journal cannot be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path: str = path
        self.reason: str = reason

    def __str__(self) -> str:
        return f"journal {self.path}: {self.reason}"


class JournalLocked(JournalError):
    """Another hub is writing to this journal."""

    def __init__(self, path: str, pid: int | None) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(path, f"{owner} is already writing to it (stop it, or choose another --journal)")
        self.pid: int | None = pid


class JournalUnusable(JournalError):
    """The journal is missing, is not a folder, or cannot be read or written."""


class JournalTooNew(JournalError):
    """The format of the journal is newer than this program."""

    def __init__(self, path: str, version: int, known: int) -> None:
        super().__init__(path, f"its format is version {version}, this mpsr knows up to {known} (upgrade mpsr)")
        self.version: int = version
        self.known: int = known


class JournalLost(JournalError):
    """Our lock on the journal is no longer in place. The current commit is not acknowledged."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "its lock file was removed or replaced, so another hub may write to it (start again)")


class JournalUnavailable(JournalError):
    """None of the given batches has been committed. They can be given again later."""


class HubClosed(MpsrError):
    """The hub was stopped."""

    def __str__(self) -> str:
        return "the hub is stopped (start it again, and send unacknowledged messages again)"


class CommandError(MpsrError):
    """
    Raised by a command: the reply is an error with *code*, *message* and *data*, which JSON can hold.

    Codes from -32768 to -32000 are reserved; -32000 stands for any error of a command (JSON-RPC 2.0, section 5.1).
    """

    def __init__(self, message: str, *, code: int = -32000, data: object = None) -> None:
        super().__init__(message)
        self.message: str = message
        self.code: int = code
        self.data: object = data

    def __str__(self) -> str:
        return self.message


class InvalidParams(CommandError):
    """The parameters of a request are wrong; *param* is the name of the wrong one, if it is one."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code=-32602, data=None if param is None else {"param": param})


class CloseConnection(Exception):
    """Raised by the handler of a request: send *result* as the reply, then close this connection."""

    def __init__(self, result: object = None) -> None:
        super().__init__(result)
        self.result: object = result
