"""
A real hub sends to the OTLP source of another one. Either is killed at random moments, and no message is missing.

`pytest tests/system/test_otlp.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.support import Worker, free_port, progress
from tests.system.test_forward import hub_in
from tests.system.test_sinks import kills_of, wait_for_delivery

pytestmark = pytest.mark.durability

SINK = """
[[sinks]]
type = "otlp"
name = "up"
from = "start"
timeout = "5s"
url = "http://{address}"
headers_file = "{folder}/headers"
"""
OTHER = """
[[sources]]
type = "http"
address = "{address}"
token_file = "{folder}/token"
"""


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_both_hubs_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each message arrives, in order; what comes again after a lost answer has the same id."""
    dice = random.Random(request.config.getoption("--seed"))
    for name, text in (
        ("token", "0123456789abcdef0123\n"),
        ("headers", "Authorization: Bearer 0123456789abcdef0123\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    address = f"127.0.0.1:{free_port()}"
    sink, other = (text.format(address=address, folder=tmp_path) for text in (SINK, OTHER))
    with hub_in(tmp_path / "two", other) as two, hub_in(tmp_path / "one", sink) as one:
        worker = Worker(one.socket, "worker", dice.random())
        for _ in range(kills_of(request)):
            progress([worker], dice.randint(1, 2000))
            for hub in dice.choice(((one,), (two,), (one, two))):
                hub.kill()
                hub.start()
        worker.end()
        wait_for_delivery(one)
        assert (one.stop(), two.stop()) == (0, 0)
        sent = [(message.time, message.record) for message in one.messages("worker")]
        found: dict[str, tuple[int, dict[str, object]]] = {}
        for message in two.messages("worker"):
            record = dict(message.record)
            uid = record.pop("log.record.uid")
            ours = {key: value for key, value in record.items() if "." not in key and key != "resource"}
            assert found.setdefault(uid, (message.time, ours)) == (message.time, ours)
        assert [record for _, record in found.values()] == [record for _, record in sent]
        assert [time for time, _ in found.values()] == [time for time, _ in sent]
        numbers = [int(uid.rpartition("-")[2]) for uid in found]
        assert all(one < two for one, two in itertools.pairwise(numbers))
