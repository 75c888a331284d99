"""loguru, with `HubHandler` as a sink."""

from __future__ import annotations

from typing import Any

import pytest

from producers import HubHandler
from tests.support import HubProcess

loguru = pytest.importorskip("loguru", reason="loguru is not installed")


def logged(hub: HubProcess, tag: str, **options: Any) -> list[dict[str, Any]]:
    """Log through loguru, and return the messages that have arrived."""
    logger = loguru.logger
    logger.remove()
    number = logger.add(HubHandler(hub.socket, tag=tag), **options)
    logger.bind(order=17, level="mine").success("paid {}", 3)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("failed")
    logger.remove(number)  # closes the handler
    return [message.record for message in hub.messages(tag)]


def test_a_sink(hub: HubProcess, tag: str) -> None:
    """Bound values are top-level fields, levels are loguru's, and the place is the caller's."""
    paid, failed = logged(hub, tag, format="{message}")
    assert (paid["message"], paid["level"], paid["order"], paid["level_"]) == ("paid 3", "success", 17, "mine")
    assert (paid["logger"], paid["pathname"], paid["func"]) == (__name__, __file__, "logged")
    assert (failed["message"], failed["level"]) == ("failed", "error")
    assert "extra" not in paid


@pytest.mark.parametrize("by", ["{message}", lambda _: "{message}"], ids=["text", "function"])
def test_an_exception(hub: HubProcess, tag: str, by: Any) -> None:
    """Message and traceback are separate fields, and the exception is data."""
    _, failed = logged(hub, tag, format=by)
    assert failed["message"] == "failed"
    assert failed["traceback"].startswith("Traceback (most recent call last):\n")
    assert failed["traceback"].endswith("ZeroDivisionError: division by zero")
    assert failed["exc_info"]["type"] == "ZeroDivisionError"


def test_from_a_thread_of_its_own(hub: HubProcess, tag: str) -> None:
    """With `enqueue` the same message arrives."""
    paid, failed = logged(hub, tag, format="{message}", enqueue=True)
    assert (paid["message"], failed["message"]) == ("paid 3", "failed")
