"""The sentences of the errors, and their built-in base classes."""

from __future__ import annotations

import copy
import pickle

import pytest

from producers import (
    AnswerLost,
    BacklogFull,
    BadRecord,
    ClientClosed,
    CommandFailed,
    NotAcknowledged,
    NotConnected,
    NotTrusted,
    ProducerClosed,
    ProducerError,
)

SENTENCES: list[tuple[ProducerError, type[Exception], str]] = [
    (BadRecord("user.tags[2]", "no"), ValueError, "record cannot be sent: user.tags[2]: no"),
    (BadRecord("", "a record is a map"), ValueError, "record cannot be sent: the record: a record is a map"),
    (ProducerClosed(), Exception, "the producer is closed"),
    (BacklogFull(7, ""), Exception, "no room for another record: 7 bytes wait for the hub"),
    (BacklogFull(7, "no hub"), Exception, "no room for another record: 7 bytes wait for the hub (no hub)"),
    (NotAcknowledged(1, ""), TimeoutError, "1 message is not acknowledged"),
    (NotAcknowledged(2, "no hub"), TimeoutError, "2 messages are not acknowledged (no hub)"),
    (NotAcknowledged(0, "no hub", 1), TimeoutError, "1 message was dropped for lack of room"),
    (NotAcknowledged(0, "", 2), TimeoutError, "2 messages were dropped for lack of room"),
    (
        NotAcknowledged(1, "no hub", 1),
        TimeoutError,
        "1 message is not acknowledged (no hub), and 1 was dropped for lack of room",
    ),
    (
        NotAcknowledged(3, "", 2),
        TimeoutError,
        "3 messages are not acknowledged, and 2 were dropped for lack of room",
    ),
    (NotTrusted("/s", "/ belongs to user 7"), NotConnected, "the hub at /s is not trusted: / belongs to user 7"),
    (NotConnected("/s", "no hub"), ConnectionError, "no hub answers at /s: no hub"),
    (
        AnswerLost("/s", "no hub", "resize"),
        NotConnected,
        "no hub answers at /s: no hub; 'resize' was sent, and may have been carried out",
    ),
    (ClientClosed(), Exception, "the client is closed"),
    (CommandFailed(-32601, "no method 'x'"), Exception, "no method 'x' (-32601)"),
]


@pytest.mark.parametrize(("error", "kind", "sentence"), SENTENCES)
def test_sentences(error: ProducerError, kind: type[Exception], sentence: str) -> None:
    """Each error is a ProducerError and, where Python has one, the built-in of its kind; its sentence is its text."""
    assert isinstance(error, ProducerError)
    assert isinstance(error, kind)
    assert str(error) == sentence


@pytest.mark.parametrize("error", [row[0] for row in SENTENCES])
def test_errors_travel(error: ProducerError) -> None:
    """An error keeps its fields and its sentence through pickle and copy, as between processes."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
