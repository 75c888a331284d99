"""
The clients of an mpsr hub.

    from producers import AsyncProducer, Client, Producer, call

Importing this package loads nothing: each name is imported on first use.

In the repository: docs/architecture.md ("Where is what") says which file does what, docs/library.md how to use the
public names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from producers.async_client import AsyncClient
    from producers.async_stream import AsyncStream
    from producers.asynchronous import AsyncProducer
    from producers.blocking import Producer
    from producers.child import Child
    from producers.client import Client, call
    from producers.errors import (
        AnswerLost,
        BacklogFull,
        BadRecord,
        ChildDied,
        ClientClosed,
        CommandFailed,
        NotAcknowledged,
        NotConnected,
        NotTrusted,
        ProducerClosed,
        ProducerError,
    )
    from producers.logs.handler import HubHandler
    from producers.logs.renderer import HubLoggerFactory, HubRenderer
    from producers.stream import Stream

__all__ = [
    "AnswerLost",
    "AsyncClient",
    "AsyncProducer",
    "AsyncStream",
    "BacklogFull",
    "BadRecord",
    "Child",
    "ChildDied",
    "Client",
    "ClientClosed",
    "CommandFailed",
    "HubHandler",
    "HubLoggerFactory",
    "HubRenderer",
    "NotAcknowledged",
    "NotConnected",
    "NotTrusted",
    "Producer",
    "ProducerClosed",
    "ProducerError",
    "Stream",
    "call",
]

_MODULES = {
    "AsyncClient": "async_client",
    "AsyncProducer": "asynchronous",
    "AsyncStream": "async_stream",
    "Child": "child",
    "Client": "client",
    "HubHandler": "logs.handler",
    "HubLoggerFactory": "logs.renderer",
    "HubRenderer": "logs.renderer",
    "Producer": "blocking",
    "Stream": "stream",
    "call": "client",
}


if not TYPE_CHECKING:  # with it, a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("mpsr")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
