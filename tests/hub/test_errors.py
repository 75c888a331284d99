"""
hub.errors: each error names the fault and its remedy in one line.
"""

import ast
from pathlib import Path

import pytest

import hub.errors
from hub.errors import (
    BadCommand,
    CloseConnection,
    CommandError,
    ConfigError,
    HubClosed,
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
    SourceError,
    UnknownGroup,
    UsageError,
)

# A reason given by the caller contains the remedy itself: tests/hub/test_socketfile.py and the journal's tests.
SENTENCES: list[tuple[MpsrError, tuple[str, ...]]] = [
    (SocketPathTooLong("/s", 120, 107), ("120 bytes", "107", "/s", "choose a shorter --socket")),
    (ConfigError("/etc/x.toml", "mode = 9: why"), ("/etc/x.toml", "mode = 9", "why")),
    (UnknownGroup("gg"), ("gg", "getent group", "--group")),
    (BadCommand("x", "size has no type"), ("command 'x'", "size has no type")),
    (ReceiverTaken(), ("receiver", "only one", "end that loop")),
    (SocketError("/s", "why (do this)"), ("/s", "why (do this)")),
    (SocketInUse("/s", 42), ("/s", "process 42", "stop it", "another --socket")),
    (SocketInUse("/s", None), ("/s", "another process", "stop it", "another --socket")),
    (NotASocket("/s", "folder"), ("/s", "folder", "not ours to remove", "another --socket")),
    (SourceError("/s", "why (do this)"), ("source /s", "why (do this)")),
    (JournalError("/j", "why (do this)"), ("/j", "why (do this)")),
    (JournalLocked("/j", 42), ("/j", "process 42", "stop it", "another --journal")),
    (JournalLocked("/j", None), ("/j", "another process", "stop it", "another --journal")),
    (JournalUnusable("/j", "why (do this)"), ("/j", "why (do this)")),
    (JournalTooNew("/j", 9, 1), ("/j", "version 9", "up to 1", "upgrade mpsr")),
    (JournalUnavailable("/j", "why (do this)"), ("/j", "why (do this)")),
    (JournalLost("/j"), ("/j", "removed or replaced", "start again")),
    (CommandError("why (do this)", code=-32050, data=[1]), ("why (do this)",)),
    (InvalidParams("limit is no number", param="limit"), ("limit is no number",)),
    (HubClosed(), ("stopped", "start it again")),
]


@pytest.mark.parametrize(("error", "parts"), SENTENCES, ids=lambda value: type(value).__name__)
def test_sentence(error: MpsrError, parts: tuple[str, ...]) -> None:
    """The sentence is one line that names the thing, the fault and the remedy."""
    sentence = str(error)
    assert [part for part in parts if part not in sentence] == []
    assert "\n" not in sentence
    assert not sentence.endswith(".")


def test_no_error_without_a_sentence() -> None:
    """Every error that the module defines is in the table above, and in the tree at the head of the module."""
    defined = {value for value in vars(hub.errors).values() if isinstance(value, type) and issubclass(value, MpsrError)}
    assert {type(error) for error, _ in SENTENCES} == defined - {MpsrError, UsageError}
    tree = ast.get_docstring(ast.parse(Path(hub.errors.__file__).read_text())) or ""
    assert [error.__name__ for error in defined if error.__name__ not in tree] == []


@pytest.mark.parametrize(("error", "parts"), SENTENCES, ids=lambda value: type(value).__name__)
def test_who_must_act(error: MpsrError, parts: tuple[str, ...]) -> None:
    """Every error belongs to exactly one of: the caller, socket, a source, the journal, a request, a stopped hub."""
    kinds = (UsageError, SocketError, SourceError, JournalError, CommandError, HubClosed)
    assert sum(isinstance(error, kind) for kind in kinds) == 1


def test_close_connection_is_no_fault() -> None:
    """`CloseConnection` is not one of the errors, and carries its reply."""
    assert not issubclass(CloseConnection, MpsrError)
    assert CloseConnection([1]).result == [1]
    assert CloseConnection().result is None
