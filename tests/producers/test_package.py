"""The public interface: defined once, loaded on first use."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import producers

PUBLIC = [
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


def test_the_public_names() -> None:
    """The public names are these; each can be imported and has a docstring, and `dir` lists exactly them."""
    assert sorted(producers.__all__) == dir(producers) == PUBLIC
    for name in PUBLIC:
        public = getattr(producers, name)
        assert public.__name__ == name
        assert public.__doc__


def test_every_error_is_public() -> None:
    """Every error that this package raises on purpose has a public name."""
    errors = importlib.import_module("producers.errors")
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and not name.startswith("_")}
    assert defined == {name for name in PUBLIC if issubclass_of_exception(getattr(producers, name))}


def issubclass_of_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def test_other_names_are_an_attribute_error() -> None:
    """An unknown name raises AttributeError, as for any module, and not a failed import."""
    with pytest.raises(AttributeError, match="module 'producers' has no attribute 'Consumer'"):
        producers.Consumer  # type: ignore[attr-defined]  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after *statement*."""
    command = [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_importing_costs_nothing() -> None:
    """`import producers` loads no module of ours except itself, and none that a bare interpreter does not load."""
    loaded = loaded_by("import producers")
    assert {name for name in loaded if name.partition(".")[0] in ("hub", "producers")} == {"producers"}
    assert loaded & {"asyncio", "socket", "msgpack", "msgspec", "threading"} == set()


def test_the_producer_loads_no_more_than_it_needs() -> None:
    """`Producer` loads no event loop, no log library and no module that only the hub needs."""
    loaded = loaded_by("from producers import Client, Producer, call")
    assert loaded & {"asyncio", "uvloop", "structlog", "click", "zstandard", "logging"} == set()
    assert {name for name in loaded if name.startswith("hub.journal")} == set()
