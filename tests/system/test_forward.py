"""
Two real hubs: one forwards to the other. Either is killed at random moments, and each message arrives once, in order.

`pytest tests/system/test_forward.py --kills 200 --seed 7` runs a long history.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from producers import Producer
from tests.certificates import Certificates
from tests.support import HubProcess, Worker, eventually, progress
from tests.system.test_sinks import kills_of, wait_for_delivery, write_config

pytestmark = pytest.mark.durability

SINK = """
[[sinks]]
type = "forward"
name = "up"
from = "start"
timeout = "5s"
servers = ["{server}"]
"""


def hub_in(folder: Path, config: str = "") -> HubProcess:
    folder.mkdir()
    return HubProcess(folder, "--config", write_config(folder, config), "--journal-size", "4GiB")


def expect_the_same(one: HubProcess, two: HubProcess) -> None:
    """Check that the other hub has the messages of all workers once, in order."""
    for tag in {message.tag for message in one.messages("worker.*")}:
        sent = [(message.time, message.record) for message in one.messages(tag)]
        assert [(message.time, message.record) for message in two.messages(tag)] == sent


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_both_hubs_lose_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Chunks in flight come again with the same ids, whichever hub was killed, also after lost acknowledgements."""
    dice = random.Random(request.config.getoption("--seed"))
    sink = SINK.format(server=tmp_path / "two" / "hub.sock")
    with hub_in(tmp_path / "two") as two, hub_in(tmp_path / "one", sink) as one:
        workers = [Worker(one.socket, f"worker.{number}", dice.random()) for number in range(2)]
        for _ in range(kills_of(request)):
            progress(workers[:1], dice.randint(1, 2000))
            for hub in dice.choice(((one,), (two,), (one, two))):
                hub.kill()
                hub.start()
        for worker in workers:
            worker.end()
        wait_for_delivery(one)
        assert (one.stop(), two.stop()) == (0, 0)
        expect_the_same(one, two)
        assert {message.tag for message in two.messages()} == {worker.tag for worker in workers}


TLS = """
shared_key_file = "{folder}/key"
tls_ca = "{ca}"
tls_cert = "{cert}"
tls_key = "{key}"
compress = "gzip"
"""
OTHER = """
[[sources]]
type = "tcp"
address = "127.0.0.1:0"
shared_key_file = "{folder}/key"
tls_cert = "{cert}"
tls_key = "{key}"
tls_client_ca = "{ca}"
"""


def test_over_tls_with_a_shared_key(tmp_path: Path, certificates: Certificates) -> None:
    """Two hosts without anything else: both sides prove who they are, and the writer is the name in the certificate."""
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    ca, (cert, private) = certificates.authority.cert, certificates.client
    other = OTHER.format(folder=tmp_path, ca=ca, cert=certificates.server.cert, key=certificates.server.key)
    with hub_in(tmp_path / "two", other) as two:
        eventually(lambda: any(event["event"] == "source.opened" for event in two.log), "it listens")
        (address,) = (event["path"] for event in two.log if event["event"] == "source.opened")
        sink = SINK.format(server=address) + TLS.format(folder=tmp_path, ca=ca, cert=cert, key=private)
        with hub_in(tmp_path / "one", sink) as one, Producer(one.socket, tag="worker.tls") as producer:
            for number in range(5000):
                producer.send({"n": number})
            producer.flush(timeout=60)
            wait_for_delivery(one)
            expect_the_same(one, two)
            found = two.messages("worker.tls")
            assert [message.record["n"] for message in found] == [*range(5000)]
            assert {(message.peer.comm, message.peer.verified) for message in found} == {("client.example", False)}
