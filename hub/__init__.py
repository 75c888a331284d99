"""
The receiver of mpsr: many producers, one Unix socket, one order.

    from hub import Hub

Always true: each name is imported on first use, so importing this package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.errors import CloseConnection, MpsrError
    from hub.hub import Hub
    from hub.journal.journal import Journal
    from hub.message import Batch, Message, Peer
    from hub.wire.jsonrpc import Request

__all__ = ["Batch", "CloseConnection", "Hub", "Journal", "Message", "MpsrError", "Peer", "Request"]

_MODULES = {
    "Batch": "message",
    "CloseConnection": "errors",
    "Hub": "hub",
    "Journal": "journal.journal",
    "Message": "message",
    "MpsrError": "errors",
    "Peer": "message",
    "Request": "wire.jsonrpc",
}


if not TYPE_CHECKING:  # a type checker would accept any attribute otherwise

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
