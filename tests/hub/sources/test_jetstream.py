"""hub.sources.jetstream: blocks of other hubs, from a real NATS server."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Rule, Rules
from hub.entries import UNSTAMPED, join
from hub.errors import SourceError
from hub.message import Home, Peer, Position
from hub.natsplace import ServerUrl
from hub.sources import jetstream
from hub.sources.hubplace import PREFIX, Kind, name_of
from hub.sources.jetstream import JetstreamSource, Place
from hub.sources.jetstreamblocks import JetstreamBlocks, Taken
from hub.sources.kinds import Jetstream, SourceTable
from hub.wire.shipped import PAYLOAD_BYTES_MAX, Label, pack_entries, pack_label
from tests.hub.clients import until
from tests.hub.sources.repeated import Committed, Life, living
from tests.natsserver import NatsServer, Shipper, entries_of, make_stream, shipping

OWN = b"\xee" * 16


class Collected(Committed):
    """The journal of a hub that collects, in which a batch may say where it continues."""

    hub_id = OWN

    def texts_of(self, host: str) -> list[str]:
        """Return the texts of the messages from *host*."""
        return [each.record["message"] for each in self.messages if each.home is not None and each.home.host == host]


SLOW_MACHINE_S = 2.5
"""How long the server waits in tests in which it may send nothing twice."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not acknowledged comes again sooner."""
    monkeypatch.setattr(jetstream, "ACK_WAIT_S", 0.4)
    monkeypatch.setattr(jetstream, "PROGRESS_S", 0.1)
    monkeypatch.setattr(jetstream, "AGAIN_S", 0.1)


def table(server: NatsServer, **more: object) -> Jetstream:
    return Jetstream(servers=(ServerUrl(server.url),), **more)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that runs during the test."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


def shipped(shipper: Shipper, upto: int, first: int = 1) -> list[str]:
    return [f"{shipper.host} {number}" for number in range(first, upto + 1)]


def test_messages_of_two_hubs(server: NatsServer, tmp_path: Path) -> None:
    """Each once, in the order of its hub, with its home; all acknowledged after they are committed."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            two = Shipper(client, 2)
            await one.ship_many(3)
            async with living(tmp_path, committed, table(server)) as life:
                await until(lambda: len(committed.texts) == 3)
                await two.ship(two.label(10))
                await one.ship_many(200)
                await until(lambda: len(committed.texts) == 213)
                info = await client.jetstream().consumer_info("LOGS", f"mpsr-{OWN.hex()}-mpsr")
                source = life.source
                assert isinstance(source, JetstreamSource)
                await until(lambda: source.lag.seconds == 0)
                assert source.tally.messages == 213
            assert (info.num_pending, info.config.ack_policy) == (0, "explicit")
            assert committed.texts_of("web-1") == shipped(one, 203)
            assert committed.texts_of("web-2") == shipped(two, 10)
            message = next(each for each in committed.messages if each.record["message"] == "web-2 4")
            assert (message.tag, message.home) == ("app", Home("web-2", two.hub, 4, 1000))
            assert message.peer == Peer(7, 1000, 100, "web", verified=False)
            assert {each.name: each.number for each in committed.positions(PREFIX)} == {
                name_of(one.hub): 203,
                name_of(two.hub): 10,
            }
            assert not committed.losses
            async with living(tmp_path, committed, table(server)):
                await one.ship()
                await until(lambda: len(committed.texts) == 214)

    asyncio.run(main())


def test_nothing_is_acknowledged_before_it_is_committed(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk stands still the stream waits, and sends nothing again; a hub that is killed gets it all again."""
    monkeypatch.setattr(jetstream, "ACK_WAIT_S", SLOW_MACHINE_S)
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            life = Life(tmp_path, committed, table(server), jetstream_make)
            life.may_commit.clear()
            await one.ship_many(1)
            await until(lambda: life.source.tally.unsettled == 1)
            await one.ship_many(4)  # they wait behind the first

            async def consumer() -> tuple[int, int]:
                found = await client.jetstream().consumer_info("LOGS", f"mpsr-{OWN.hex()}-mpsr")
                return found.num_ack_pending or 0, found.num_redelivered or 0

            while (await consumer())[0] != 5:
                pass
            await asyncio.sleep(1.2 * jetstream.ACK_WAIT_S)  # it is told that the work is in progress
            assert await consumer() == (5, 0)
            await life.kill()
            assert not committed.texts
            async with living(tmp_path, committed, table(server)):
                await one.ship_many(5)
                await until(lambda: len(committed.texts) == 10)
            assert committed.texts == shipped(one, 10)
            while (await consumer())[0]:
                pass

    asyncio.run(main())


def jetstream_make(table: SourceTable, *others: object) -> JetstreamSource:
    assert isinstance(table, Jetstream)
    return JetstreamSource(table, *others)  # type: ignore[arg-type]


def test_what_comes_before_its_turn_comes_again(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later block is not stored before those that a killed hub had in hand, and nothing counts as missing."""
    committed = Collected()
    kinds: list[Kind | None] = []

    async def main() -> None:
        async with shipping(server) as (client, one):
            two = Shipper(client, 2)
            life = Life(tmp_path, committed, table(server), jetstream_make)
            await one.ship_many(3)
            await until(lambda: len(committed.texts) == 3)
            life.may_commit.clear()
            await one.ship_many(5)
            await until(lambda: life.source.tally.unsettled)
            await life.kill()
            manager = client.jetstream()
            while (await manager.consumer_info("LOGS", f"mpsr-{OWN.hex()}-mpsr")).num_ack_pending != 5:
                pass
            await one.ship_many(2)
            await two.ship_many(1)
            monkeypatch.setattr(JetstreamSource, "_wait", lambda *_: asyncio.sleep(0))
            take = JetstreamBlocks.take

            async def noted(*given: Any) -> Taken:
                taken = await take(*given)
                kinds.append(taken.kind)
                return taken

            monkeypatch.setattr(JetstreamBlocks, "take", noted)
            async with living(tmp_path, committed, table(server)):
                await until(lambda: len(committed.texts) == 11)
            assert kinds[:3] == [Kind.EARLY, Kind.EARLY, Kind.NEW], "another hub's message does not wait"
            assert committed.texts_of("web-1") == shipped(one, 10)
            assert not committed.losses

    asyncio.run(main())


def test_a_repetition_is_stored_once(server: NatsServer, tmp_path: Path) -> None:
    """Whether the server sends it again, the hub publishes it again, or it is cut in other places the second time."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            first, second = one.label(5), one.label(5)
            async with living(tmp_path, committed, table(server)):
                for label in (first, second, second, first):
                    await one.ship(label)
                await one.ship(Label(*second)._replace(first=9, messages=4, after=8))
                await one.ship(one.label(first=13))
                await until(lambda: len(committed.texts) == 13)
            await client.jetstream().delete_consumer("LOGS", f"mpsr-{OWN.hex()}-mpsr")  # all of it comes again
            async with living(tmp_path, committed, table(server)):
                await one.ship(one.label(first=14))
                await until(lambda: len(committed.texts) == 14)
            assert committed.texts == shipped(one, 14)
            assert [each.home.sequence for each in committed.messages if each.home] == [*range(1, 15)]
            assert not committed.losses

    asyncio.run(main())


def test_what_the_stream_has_discarded_is_reported(server: NatsServer, tmp_path: Path) -> None:
    """Counted once, before what follows it."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            async with living(tmp_path, committed, table(server)):
                await one.ship_many(3)
                await until(lambda: len(committed.texts) == 3)
            await one.ship_many(4)
            await client.jetstream().purge_stream("LOGS")
            await one.ship_many(2)
            async with living(tmp_path, committed, table(server)):
                await until(lambda: len(committed.texts) == 5)
            assert committed.texts == [*shipped(one, 3), *shipped(one, 9, 8)]
            (loss,) = committed.losses
            assert (loss["count"], loss["reason"]) == (4, f"lost between the hub {one.hub.hex()} on web-1 and this one")
            kinds = [batch.tag for batch in committed.batches if batch.count]
            assert kinds.index(b"mpsr.loss") == 3, "before the message that follows the gap"

    asyncio.run(main())


def test_a_hub_whose_journal_has_gone_back(server: NatsServer, tmp_path: Path) -> None:
    """It uses sequences again, for messages that were received later: they are stored."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (_, one):
            async with living(tmp_path, committed, table(server)):
                await one.ship(one.label(5))
                await one.ship(one.label(2, first=4, received=2000)._replace(after=3))
                await one.ship(one.label(1, received=2000))
                await until(lambda: len(committed.texts) == 8)
            assert committed.texts == [*shipped(one, 5), *shipped(one, 6, 4)]

    asyncio.run(main())


HOSTILE = bytes([66]) * 16


def test_a_hostile_publisher_harms_nobody(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is no block, has wrong counts, names another hub, expands without end or is very large is counted as lost and
    taken from the stream; the blocks of others are stored.
    """
    monkeypatch.setattr(jetstream, "ACK_WAIT_S", SLOW_MACHINE_S)
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            bad = Shipper(client, 66)
            two = entries_of([{"message": "x"}] * 2)
            wrong = [
                (pack_label(one.label(9, first=500)), pack_entries(two)),  # another hub's name
                (pack_label(bad.label(3)), pack_entries(two)),
                (pack_label(bad.label(2)), two),
                (pack_label(bad.label(2)), pack_entries(bytes(32 << 20))),
                (pack_label(bad.label(2)), pack_entries(two)[:-3]),
                (pack_label(bad.label(1)), pack_entries(join([UNSTAMPED + b"\x91" * 4000], 1))),
                (pack_label(bad.label(2)) | {"Mpsr-First": "-5"}, pack_entries(two)),
                ({}, b"anything"),
                ({"Status": "409", "Description": "Consumer Deleted"}, b""),
                (pack_label(bad.label(2)), bytes(PAYLOAD_BYTES_MAX + 1)),
            ]
            one.next, one._after = 1, 0
            async with living(tmp_path, committed, table(server)):
                for headers, payload in wrong:
                    await client.publish(bad.subject, payload, headers=headers)
                await client.flush()
                await one.ship_many(3)
                await until(lambda: len(committed.texts) == 3)
            assert committed.texts == shipped(one, 3)
            assert committed.lost == len(wrong)
            assert len(committed.losses) <= 10
            assert [each.name for each in committed.positions(PREFIX)] == [name_of(one.hub)]
            manager = client.jetstream()
            while True:  # the server has the acknowledgements, and counts them soon
                info = await manager.consumer_info("LOGS", f"mpsr-{OWN.hex()}-mpsr")
                if (info.num_ack_pending, info.num_pending) == (0, 0):
                    break

    asyncio.run(main())


def test_headers_that_cannot_be_read(server: NatsServer, tmp_path: Path) -> None:
    """Whatever a publisher writes in place of headers, the connection is read on."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (_, one):
            async with living(tmp_path, committed, table(server)):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
                for block in (
                    b"NATS/1.0 \xff\xff\xff x\r\n\r\n",
                    b"NATS/1.0\r\n\xff:\xff\r\n\r\n",
                    b"NATS/1.0\r\n\r\n",
                ):
                    writer.write(b"HPUB %b %d %d\r\n%b\r\n" % (one.subject.encode(), len(block), len(block), block))
                writer.write(b"PING\r\n")
                await reader.readuntil(b"PONG\r\n")
                writer.close()
                await one.ship_many(2)
                await until(lambda: len(committed.texts) == 2)
            assert committed.lost == 3

    asyncio.run(main())


def test_a_message_larger_than_a_request(tmp_path: Path) -> None:
    """A server may allow 8 MiB: the message is asked for by itself, refused, and what follows is stored."""
    committed = Collected()

    async def main(server: NatsServer) -> None:
        async with shipping(server) as (client, one):
            bad = Shipper(client, 66)
            await client.publish(bad.subject, bytes(6 << 20), headers=pack_label(bad.label()))
            await one.ship_many(2)
            async with living(tmp_path, committed, table(server)):
                await until(lambda: len(committed.texts) == 2)
            assert committed.losses[0]["reason"].endswith("its payload is too large")

    with NatsServer(tmp_path / "nats", more="max_payload: 8388608") as server:
        asyncio.run(main(server))


def test_large_blocks(server: NatsServer, tmp_path: Path) -> None:
    """Several requests, each bounded in bytes, bring what cannot be compressed."""
    committed = Collected()
    dice = random.Random(1)

    async def main() -> None:
        async with shipping(server) as (_, one):
            for number in range(1, 13):
                record = {"message": f"web-1 {number}", "x": dice.randbytes(800 << 10)}
                await one.ship(payload=pack_entries(entries_of([record])))
            async with living(tmp_path, committed, table(server)):
                await until(lambda: len(committed.texts) == 12)
            assert committed.texts == shipped(one, 12)
            assert not committed.losses

    asyncio.run(main())


def test_our_own_messages_are_left_out(server: NatsServer, tmp_path: Path) -> None:
    """Also if another hub that collects has shipped them."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            own = Shipper(client, OWN[0])
            assert own.hub == OWN
            async with living(tmp_path, committed, table(server)):
                await own.ship_many(2)
                await one.ship(one.label(home=Home("here", OWN, 1, 1)))
                await one.ship(one.label(home=Home("edge", b"\x05" * 16, 70, 9)))
                await until(lambda: committed.texts)
            (message,) = committed.messages
            assert message.home == Home("edge", b"\x05" * 16, 70, 9)

    asyncio.run(main())


@pytest.mark.parametrize("is_at_once", [False, True])
def test_a_server_that_is_killed(server: NatsServer, tmp_path: Path, is_at_once: bool) -> None:
    """The source goes on when it is there again, with what it has missed."""
    committed = Collected()

    async def main() -> None:
        async with shipping(server) as (client, one):
            life = Life(tmp_path, committed, table(server), jetstream_make)
            await one.ship_many(3)
            await until(lambda: len(committed.texts) == 3)
        server.kill()
        if is_at_once:
            server.start()
        with pytest.raises(SourceError, match="the connection is lost"):
            await asyncio.wait_for(asyncio.shield(life.running), 30)
        if not is_at_once:
            server.start()
        async with server.client() as client:
            one._client = client
            await one.ship_many(3)
            life.look()
            await until(lambda: len(committed.texts) == 6)
        await life.stop()
        assert committed.texts == shipped(one, 6)

    asyncio.run(main())


def test_a_server_that_stands_still(server: NatsServer, tmp_path: Path) -> None:
    """A stop does not wait for it for long."""
    committed = Collected()

    async def main() -> None:
        async with server.client() as client:
            await make_stream(client)
            life = Life(tmp_path, committed, table(server), jetstream_make)
            await Shipper(client, 1).ship()
            await until(lambda: committed.texts)
            server.signal(signal.SIGSTOP)
            await asyncio.wait_for(life.source.stop(30), 30)
            server.signal(signal.SIGCONT)
            await life.kill()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("is_running", "jetstream_of_server", "match"),
    [
        (True, "", "no stream LOGS"),
        (False, "", "no connection"),
        (True, None, "JetStream"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    tmp_path: Path, is_running: bool, jetstream_of_server: str | None, match: str
) -> None:
    """No stream, no server, no JetStream."""

    async def main() -> None:
        server = NatsServer(tmp_path / "nats", jetstream=jetstream_of_server)
        if is_running:
            server.start()
        life = Life(tmp_path, Collected(), table(server), jetstream_make)
        with pytest.raises(SourceError, match=match):
            await life.running
        await life.kill()
        server.kill()

    asyncio.run(main())


def test_a_stream_that_is_deleted(server: NatsServer, tmp_path: Path) -> None:
    """Is a fault of the source."""

    async def main() -> None:
        async with server.client() as client:
            await make_stream(client)
            committed = Collected()
            life = Life(tmp_path, committed, table(server), jetstream_make)
            await Shipper(client, 1).ship()
            await until(lambda: committed.texts)
            await client.jetstream().delete_stream("LOGS")
            with pytest.raises(SourceError, match="was deleted"):
                await asyncio.wait_for(life.running, 30)
            await life.kill()

    asyncio.run(main())


def test_positions_are_stored_again(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each hub, or they would be forgotten; one that has moved meanwhile is left as it is."""
    committed = Collected()
    monkeypatch.setattr(jetstream, "REFRESHED_AT_ONCE", 2)
    monkeypatch.setattr(jetstream, "LOOK_S", 0.01)
    positions = [Position(name_of(bytes([number]) * 16), number, b"5") for number in range(5)]

    async def main() -> None:
        async with server.client() as client:
            await make_stream(client)
            (batch,) = jetstream.refreshing(positions[:1], Peer())
            for position in positions:
                committed.commit(jetstream.refreshing([position], Peer())[0])
            assert (batch.positions, batch.continues, batch.count) == ((positions[0],), positions[0], 0)
            committed.batches.clear()
            async with living(tmp_path, committed, table(server)):
                await until(lambda: len(committed.batches) >= 5)
        assert [each for batch in committed.batches for each in batch.positions] == positions

    asyncio.run(main())


def test_rules(server: NatsServer, tmp_path: Path) -> None:
    """A rule that denies what this source sends is a fault of the source."""
    access = Access({"send": Rules(deny=(Rule.parse("comm:jetstream"),))})

    async def main() -> None:
        with pytest.raises(SourceError, match="send_deny"):
            Life(tmp_path, Collected(), table(server), jetstream_make, access=access)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("$JS.ACK.LOGS.mpsr.1.7.3.1700000000.4", Place(7, 1_700_000_000, 4)),
        ("$JS.ACK.hub.ABC.LOGS.mpsr.1.7.3.1700000000.4.xyz", Place(7, 1_700_000_000, 4)),
        ("$JS.ACK.LOGS.mpsr.1.x.3.1700000000.4", None),
        ("$JS.ACK.LOGS", None),
        ("_INBOX.a.b", None),
        ("", None),
    ],
)
def test_the_place_in_the_stream(reply: str, place: Place | None) -> None:
    """Of a message, by its reply subject, with and without a domain (ADR-15 of NATS)."""
    assert Place.of(reply) == place
