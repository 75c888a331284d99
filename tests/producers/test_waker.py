"""Waker: a thread that polls is woken once for any number of wake-ups, with an eventfd and with a pipe."""

from __future__ import annotations

import os
import select

import pytest

from producers.waker import Waker

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture(params=["eventfd", "pipe"])
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")


def is_awake(waker: Waker) -> bool:
    return bool(select.select([waker.fd], [], [], 0)[0])


@pytest.mark.usefixtures("_kind")
def test_woken() -> None:
    """It is readable from a wake-up until it is cleared; clearing it twice does not block."""
    waker = Waker()
    waker.wake()  # closed: without effect
    waker.open()
    assert not is_awake(waker)
    waker.wake()
    assert is_awake(waker)
    waker.clear()
    waker.clear()
    assert not is_awake(waker)
    waker.close()


@pytest.mark.usefixtures("_kind")
def test_a_full_pipe_does_not_block() -> None:
    """More wake-ups than a pipe holds are no error: the thread is woken anyway."""
    waker = Waker()
    waker.open()
    for _ in range(10_000):
        waker.wake()
    assert is_awake(waker)
    waker.close()


@pytest.mark.usefixtures("_kind")
def test_closed_once() -> None:
    """After it is closed, neither a wake-up nor another close touches a file that has got its number."""
    waker = Waker()
    waker.open()
    number = waker.fd
    waker.close()
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    assert number in files
    waker.wake()
    waker.close()
    for file in files:
        os.close(file)  # raises if it was closed
    assert waker.fd == -1
