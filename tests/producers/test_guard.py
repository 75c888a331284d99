"""
Guard: a thread that interrupts itself neither deadlocks nor sees partial changes, even if the interruption raises.
"""

from __future__ import annotations

import threading
from types import FrameType

import pytest

from producers.guard import Guard, Reentered
from tests.producers.helpers import interrupted
from tests.support import PATIENCE_S


def test_inside() -> None:
    """A thread inside is known to be inside and is refused a second time; another thread is not inside, and waits."""
    guard: Guard[int] = Guard()
    seen: list[object] = []

    def other() -> None:
        seen.append(guard.is_inside())
        with guard.exclusive():
            seen.append(guard.is_inside())

    assert not guard.is_inside()
    with guard.exclusive():
        assert guard.is_inside()
        with pytest.raises(Reentered):
            guard.exclusive()
        thread = threading.Thread(target=other)
        thread.start()
    thread.join()
    assert seen == [False, True]
    assert not guard.is_inside()


def test_not_inside_while_waiting() -> None:
    """A thread that waits for a change has released the lock: a signal handler that runs then is not inside."""
    guard: Guard[int] = Guard()
    seen: list[bool] = []

    def interrupt(_: int, __: FrameType | None) -> None:
        seen.append(guard.is_inside())
        if not seen[-1]:
            with guard.exclusive():
                guard.notify()

    with interrupted(interrupt), guard.exclusive():
        guard.wait_for(lambda: False in seen, PATIENCE_S)
    assert False in seen


def test_an_exception_at_any_point_leaves_it_free() -> None:
    """Handlers that raise at thousands of points leave the lock free afterwards."""
    guard: Guard[int] = Guard()
    is_armed, raised = False, 0

    class Interruption(BaseException):
        pass

    def interrupt(_: int, __: FrameType | None) -> None:
        if is_armed:
            raise Interruption

    with interrupted(interrupt):
        while raised < 2000:
            try:
                is_armed = True
                while True:
                    with guard.exclusive():
                        pass
            except Interruption:
                is_armed = False
                raised += 1
                assert not guard.is_inside()
    taken: list[bool] = []

    def take() -> None:
        with guard.exclusive():
            taken.append(True)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert taken == [True]
