"""hub.intake: what is accepted, refused, reported and settled, whatever source gave it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from hub.access import Access, Gate, Right, Rule, Rules
from hub.entries import join
from hub.errors import HubClosed
from hub.inbox import Inbox
from hub.intake import LIMITED_TAGS_MAX, NO_LIMITS, Admission, Data, Intake
from hub.limits import Limit, Limits
from hub.message import LOSS_TAG, Batch, Loss, Peer, Position, position_batches
from hub.metrics import Metrics
from hub.opener import Opener
from hub.ration import Allowance
from hub.users import LOSSES_PER_S, User
from hub.wire.forward import ForwardDecoder
from tests.hub.clients import Run, both_loops, chunk, frame_of, records

PEER = Peer(1, 5, 5, "it")
NOBODY: dict[Right, Rules] = {"send": Rules(deny=(Rule("all", "", "all"),))}


class Source:
    """An intake, and what it has put into the inbox."""

    def __init__(
        self,
        *,
        user: User | None = None,
        inbox: Inbox | None = None,
        access: Access | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.inbox = inbox or Inbox()
        self.metrics = Metrics()
        self.user = user or User(PEER.uid)
        self.opener = Opener(self.inbox.budget)
        gate = Gate(access or Access(), PEER, frozenset)
        self.settled: list[bytes] = []
        admission = Admission(PEER, self.user, self.inbox, self.opener, self.metrics, gate, limits=limits)
        self.intake = Intake(admission, on_settled=self.settled.append)

    def decoded(self, data: bytes) -> Sequence[Any]:
        decoder = ForwardDecoder(PEER, self.intake)
        return [*decoder.receive(data), *decoder.finish()]

    async def taken(self) -> list[Batch]:
        """Return what is in the inbox."""
        return list(await self.inbox.take(1 << 30)) if self.inbox.held_bytes else []


@both_loops
def test_batches_and_losses_keep_their_order(run: Run) -> None:
    """What comes out of a decoder is in the inbox in its order, losses as messages with who and what."""

    async def main() -> None:
        source = Source()
        items = [*source.decoded(chunk("a", 2)), Loss("why", 3, 9, b"xy", b"t"), *source.decoded(chunk("b"))]
        assert await source.intake.take(items)
        taken = await source.taken()
        assert [batch.tag for batch in taken] == [b"app", LOSS_TAG, b"app"]
        (record,) = records(taken[1:2])
        assert record == {
            "reason": "why", "count": 3, "bytes": 9, "tag": "t", "sample": "7879",
            "peer": {"pid": 1, "uid": 5, "gid": 5, "comm": "it"},
        }  # fmt: skip
        assert (source.metrics.losses, source.intake.messages) == (3, 3)

    run(main())


@both_loops
def test_a_fatal_loss_is_the_last(run: Run) -> None:
    """Nothing that follows a fault in the framing is accepted."""

    async def main() -> None:
        source = Source()
        items: list[Data] = [Loss("end", fatal=True), *source.decoded(chunk("a"))]
        assert not await source.intake.take(items)
        assert [batch.tag for batch in await source.taken()] == [LOSS_TAG]

    run(main())


@both_loops
def test_the_hub_s_own_tags_are_the_hub_s(run: Run) -> None:
    """What a client sends under them is stored under another tag, in whatever form it sends it; its ack is as ever."""

    async def main() -> None:
        source = Source()
        frames = (
            chunk("a", tag=LOSS_TAG),
            msgpack.packb(["mpsr.loss", 1, {"reason": "lie"}]),
            msgpack.packb(["mpsr.loss", [[1, {"reason": "lie"}]]]),
            chunk("b", tag=b"mpsr.loss.client"),
            chunk("c", tag=b"mpsr.losses"),
        )
        for frame in frames:
            await source.intake.take(source.decoded(frame))
        taken = await source.taken()
        assert [batch.tag for batch in taken] == [b"mpsr.loss.client"] * 4 + [b"mpsr.losses"]
        for batch in taken:
            batch.acknowledge()
        assert source.settled == [b"\xa1a", b"\xa1b", b"\xa1c"]

    run(main())


@both_loops
def test_who_may_not_send_is_refused_before_anything_is_opened(run: Run) -> None:
    """Nothing is stored or decompressed; the refusal is counted, and reported once a second for the user."""

    class Never:
        count = 4
        payload = b""

        def open(self) -> Sequence[Batch | Loss]:
            raise AssertionError

    async def main() -> None:
        source = Source(access=Access(NOBODY, clock=lambda: 0.0))
        never: Any = Never()
        assert not await source.intake.take([never])
        assert not await source.intake.take(source.decoded(chunk("a", 3)))
        (loss,) = await source.taken()
        assert records([loss])[0]["reason"] == "refused: uid 5 may not send"
        assert (source.metrics.refused, source.intake.messages) == (7, 0)

    run(main())


@both_loops
def test_all_settled(run: Run) -> None:
    """It waits for the last of all that was accepted, losses and positions too, and for nothing if that is nothing."""

    async def main() -> None:
        source = Source()
        await source.intake.all_settled()
        positions = position_batches([Position(b"files:1", 2)], peer=PEER)
        await source.intake.take([*source.decoded(chunk("a") + chunk("b")), Loss("why"), *positions])
        waiting = asyncio.create_task(source.intake.all_settled())
        for batch in await source.taken():
            await asyncio.sleep(0)
            assert not waiting.done()
            batch.acknowledge()
        await waiting

    run(main())


@both_loops
def test_a_second_acknowledgement_does_nothing(run: Run) -> None:
    """It is not passed on, and does not count for another batch, before or after the last one is settled."""

    async def main() -> None:
        source = Source()
        await source.intake.take(source.decoded(chunk("a") + chunk("b")))
        first, second = await source.taken()
        waiting = asyncio.create_task(source.intake.all_settled())
        for _ in range(2):
            first.acknowledge()
            await asyncio.sleep(0)
            assert (waiting.done(), source.settled) == (False, [b"\xa1a"])
        second.acknowledge()
        second.acknowledge()
        await waiting
        await source.intake.all_settled()
        assert source.settled == [b"\xa1a", b"\xa1b"]

    run(main())


@both_loops
def test_what_is_not_settled_is_counted(run: Run) -> None:
    """Each batch that was put in counts until it is acknowledged, once."""

    async def main() -> None:
        source = Source()
        await source.intake.take(
            [*source.decoded(chunk("a") + chunk("b")), *position_batches([Position(b"x", 1)], peer=PEER)]
        )
        taken = await source.taken()
        assert source.intake.tally.unsettled == len(taken) == 3
        for number, batch in enumerate(taken, 1):
            batch.acknowledge()
            batch.acknowledge()
            assert source.intake.tally.unsettled == 3 - number

    run(main())


@both_loops
def test_a_closed_inbox(run: Run) -> None:
    """Nothing more is accepted, and what was is still awaited."""

    async def main() -> None:
        source = Source()
        source.inbox.close()
        with pytest.raises(HubClosed):
            await source.intake.take(source.decoded(chunk("a")))
        await source.intake.all_settled()

    run(main())


def test_losses_of_a_user_are_reported_at_a_bounded_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """A burst is stored at once, then the sources of this user wait, not those of another; the log has one line."""

    async def main() -> None:
        inbox, greedy = Inbox(), User(5)
        greedy.losses = Allowance(LOSSES_PER_S, clock=lambda: 0.0, sleep=lambda _: asyncio.Event().wait())
        sources = [Source(user=greedy, inbox=inbox) for _ in range(2)]
        losses = [Loss(f"{number}", chunk_id=b"x") for number in range(20_000)]
        tasks = [asyncio.create_task(source.intake.take(losses)) for source in sources]
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(await inbox.take(1 << 30)) == LOSSES_PER_S
        other = Source(user=User(6), inbox=inbox)
        await other.intake.take([Loss("another's")])
        await sources[0].intake.take(sources[0].decoded(frame_of(None, {"n": 1})))
        assert [batch.tag for batch in await inbox.take(1 << 30)] == [LOSS_TAG, b"app"]
        for task in tasks:
            task.cancel()

    asyncio.run(main())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["message.lost"] * 2


@both_loops
def test_a_sender_over_its_limit_waits(run: Run) -> None:
    """Its batches are put in one by one as the time comes, in order; a reload lets it go on at once."""

    async def main() -> None:
        now = 0.0
        limits = Limits([Limit(messages_per_s=2)], clock=lambda: now)
        source = Source(limits=limits)
        items = source.decoded(b"".join(chunk(name) for name in "abcdef"))
        assert source.intake.take_now(items) == 0, "it may have to wait"
        taking = asyncio.create_task(source.intake.take(items))
        got: list[Batch] = []
        while len(got) < 2:
            await asyncio.sleep(0)
            got += await source.taken()
        now = 0.5
        while len(got) < 3:
            await asyncio.sleep(0)
            got += await source.taken()
        limits.change([])
        assert await taking
        got += await source.taken()
        assert [batch.chunk_id for batch in got] == [b"\xa1%c" % name for name in b"abcdef"]
        assert (source.metrics.limited, source.metrics.losses) == (0, 0)

    run(main())


@both_loops
def test_what_is_dropped_over_a_limit_is_reported_and_acknowledged(run: Run) -> None:
    """One report for each tag, by the end at the latest; a chunk that was dropped is settled with the next commit."""

    async def main() -> None:
        limits = Limits([Limit(messages_per_s=1, when="drop")], clock=lambda: 0.0)
        source = Source(limits=limits)
        names = [f"{number:x}" for number in range(6)]
        assert await source.intake.take(source.decoded(b"".join(chunk(name, 2) for name in names)))
        ending = asyncio.create_task(source.intake.all_settled())
        await asyncio.sleep(0)
        taken = await source.taken()
        for batch in taken:
            batch.acknowledge()
        await ending
        assert [(batch.tag, batch.count) for batch in taken] == [(b"app", 2), *[(b"app", 0)] * 5, (LOSS_TAG, 1)]
        (record,) = records(taken[-1:])
        assert (record["reason"], record["count"], record["tag"]) == ("over the rate limit", 10, "app")
        assert source.settled == [b"\xa1" + name.encode() for name in names]
        assert (source.metrics.limited, source.metrics.losses, source.intake.messages) == (10, 10, 2)

    run(main())


@both_loops
def test_what_is_imported_waits_where_others_are_dropped(run: Run) -> None:
    """Its sender would take it for stored: the position says so, and the chunk is acknowledged."""

    async def main() -> None:
        now = 0.0
        limits = Limits([Limit(messages_per_s=1, when="drop")], clock=lambda: now)
        source = Source(limits=limits)
        entries = join((b"\x92\x01\x80",) * 2, 2)
        places = [Position(b"import:7:a", number) for number in range(3)]
        first, second = (
            Batch(b"t", entries, 2, b"\xa1c", PEER, positions=(end,), continues=start)
            for start, end in itertools.pairwise(places)
        )
        assert await source.intake.take([first])
        taking = asyncio.create_task(source.intake.take([second]))
        await asyncio.sleep(0)
        assert not taking.done()
        now = 5.0
        limits.change([])
        assert await taking
        taken = await source.taken()
        assert [(batch.count, batch.positions) for batch in taken] == [(2, (places[1],)), (2, (places[2],))]
        assert (source.metrics.limited, source.metrics.losses) == (0, 0)

    run(main())


@both_loops
def test_reports_of_many_tags_are_few(run: Run) -> None:
    """A client that invents tags gets one report for the rest of them."""

    async def main() -> None:
        limits = Limits([Limit(messages_per_s=1, when="drop")], clock=lambda: 0.0)
        source = Source(limits=limits)
        frames = [msgpack.packb([f"t{number}", [[1, {}], [2, {}]]]) for number in range(40)]
        for _ in range(2):
            assert await source.intake.take(source.decoded(b"".join(frames)))
        ending = asyncio.create_task(source.intake.all_settled())
        await asyncio.sleep(0)
        lost = records([batch for batch in await source.taken() if batch.tag == LOSS_TAG])
        assert [loss["count"] for loss in lost] == [2] * LIMITED_TAGS_MAX + [2 * (40 - LIMITED_TAGS_MAX)]
        assert [loss.get("tag") for loss in lost] == [f"t{number}" for number in range(LIMITED_TAGS_MAX)] + [None]
        ending.cancel()

    run(main())


@both_loops
def test_positions_are_kept_with_what_is_dropped_and_lost(run: Run) -> None:
    """What a rate limit drops is not read again; a loss and its position are one batch."""

    async def main() -> None:
        limits = Limits([Limit(messages_per_s=1, when="drop")], clock=lambda: 0.0)
        source = Source(limits=limits)
        entries = join((b"\x92\x01\x80",) * 2, 2)
        places = [(Position(b"files:1", number),) for number in range(6)]
        items: list[Batch | Loss] = [
            Batch(LOSS_TAG, entries, 2, None, PEER, positions=places[0]),
            Batch(b"t", entries, 2, None, PEER, positions=places[1]),
            Loss("why", positions=places[2]),
            *position_batches(places[3], peer=PEER),
            Batch(b"t", entries, 2, None, PEER),
            Batch(b"t", entries, 2, None, PEER, positions=places[4] + places[5]),
        ]
        assert await source.intake.take(items)
        taken = await source.taken()
        expected = [*places[:4], places[4] + places[5]]
        assert [batch.positions for batch in taken] == expected
        assert [batch.count for batch in taken] == [2, 2, 1, 0, 0]
        assert source.metrics.limited == 4
        source.intake._report_dropped()
        assert [record["count"] for record in records(await source.taken())] == [4]

    run(main())
