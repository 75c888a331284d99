"""
The receiver of mpsr: many producers, one Unix socket, one order.

    from hub import Hub

Always true: each name is imported on first use, so importing this package is cheap.

In the repository: docs/architecture.md ("Where is what") says which file does what, docs/library.md how to use the
public names.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; the module `typing` takes longer to load than all of this

if TYPE_CHECKING:
    __version__: str
    from hub.access import Access, Grant, Rule, Rules
    from hub.errors import (
        BadCommand,
        CloseConnection,
        CommandError,
        InvalidParams,
        JournalError,
        JournalLocked,
        JournalLost,
        JournalTooNew,
        JournalUnavailable,
        JournalUnusable,
        MpsrError,
        NotASocket,
        ReceiverTaken,
        SocketError,
        SocketInUse,
        SocketPathTooLong,
        UnknownGroup,
        UsageError,
    )
    from hub.hub import Hub
    from hub.journal.journal import Journal
    from hub.message import Batch, Home, Message, Peer
    from hub.wire.jsonrpc import Request

__all__ = [
    "Access",
    "BadCommand",
    "Batch",
    "CloseConnection",
    "CommandError",
    "Grant",
    "Home",
    "Hub",
    "InvalidParams",
    "Journal",
    "JournalError",
    "JournalLocked",
    "JournalLost",
    "JournalTooNew",
    "JournalUnavailable",
    "JournalUnusable",
    "Message",
    "MpsrError",
    "NotASocket",
    "Peer",
    "ReceiverTaken",
    "Request",
    "Rule",
    "Rules",
    "SocketError",
    "SocketInUse",
    "SocketPathTooLong",
    "UnknownGroup",
    "UsageError",
]

_MODULES = {
    "Access": "access",
    "BadCommand": "errors",
    "Batch": "message",
    "CloseConnection": "errors",
    "CommandError": "errors",
    "Grant": "access",
    "Home": "message",
    "Hub": "hub",
    "InvalidParams": "errors",
    "Journal": "journal.journal",
    "JournalError": "errors",
    "JournalLocked": "errors",
    "JournalLost": "errors",
    "JournalTooNew": "errors",
    "JournalUnavailable": "errors",
    "JournalUnusable": "errors",
    "Message": "message",
    "MpsrError": "errors",
    "NotASocket": "errors",
    "Peer": "message",
    "ReceiverTaken": "errors",
    "Request": "wire.jsonrpc",
    "Rule": "access",
    "Rules": "access",
    "SocketError": "errors",
    "SocketInUse": "errors",
    "SocketPathTooLong": "errors",
    "UnknownGroup": "errors",
    "UsageError": "errors",
}


if not TYPE_CHECKING:  # a type checker would accept any attribute otherwise

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("mpsr")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
