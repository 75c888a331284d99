"""The application clients of `mpsr bench`: the messages that they send, and the results that they report."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from hub.bench.applications import ROUND, logging_client, structlog_client
from hub.bench.orders import Orders
from tests.support import HubProcess


@pytest.mark.parametrize(("number", "client"), [(900, logging_client), (901, structlog_client)])
def test_they_send_what_they_say(
    hub: HubProcess, monkeypatch: pytest.MonkeyPatch, number: int, client: Callable[[Orders], dict[str, Any]]
) -> None:
    """
    They send whole rounds, each message once and in order, and report the cost of a call to hub and file, and the
    ratio.
    """
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n"))
    results = client(Orders(hub.socket, number, "", 2 * ROUND, 0.0, 130, 1000, True))
    assert results["messages"] == 2 * ROUND
    assert results["ratio"] == pytest.approx(results["send_us"] / results["file_us"])
    assert [message.record["n"] for message in hub.messages(f"bench.{number}")] == list(range(2 * ROUND))
