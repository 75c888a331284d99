"""
The clients of an mpsr hub.

    from producers import AsyncProducer, Producer, call

Importing this package loads nothing: each name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from producers.asynchronous import AsyncProducer
    from producers.blocking import Producer
    from producers.child import Child
    from producers.client import call
    from producers.errors import (
        BacklogFull,
        BadRecord,
        ChildDied,
        CommandFailed,
        NotAcknowledged,
        NotConnected,
        NotTrusted,
        ProducerClosed,
        ProducerError,
    )
    from producers.logs.handler import HubHandler
    from producers.logs.renderer import HubLoggerFactory, HubRenderer

__all__ = [
    "AsyncProducer",
    "BacklogFull",
    "BadRecord",
    "Child",
    "ChildDied",
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
    "call",
]

_MODULES = {
    "AsyncProducer": "asynchronous",
    "Child": "child",
    "HubHandler": "logs.handler",
    "HubLoggerFactory": "logs.renderer",
    "HubRenderer": "logs.renderer",
    "Producer": "blocking",
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
