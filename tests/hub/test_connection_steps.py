"""hub.connection: what a decoder leaves for later is decoded later, and what it leaves unopened is opened."""

from __future__ import annotations

import msgpack

from hub.wire.forward import WORK_MAX
from tests.hub.clients import Run, both_loops, chunk
from tests.hub.rig import Rig


@both_loops
def test_more_frames_than_one_step_takes(run: Run) -> None:
    """Thousands of small frames are all acknowledged, in order, without more being sent."""

    async def main() -> None:
        async with Rig() as rig:
            names = [f"{number:05}" for number in range(2 * WORK_MAX + 10)]
            await rig.say(b"".join(map(chunk, names)))
            assert await rig.acks(len(names)) == names

    run(main())


@both_loops
def test_a_large_frame_comes_in_its_place(run: Run) -> None:
    """A frame that is opened on a thread stays between those before and behind it."""

    async def main() -> None:
        async with Rig() as rig:
            large = msgpack.packb(["app", 1, {"text": "x" * 400_000}, {"chunk": "large"}])
            await rig.say(chunk("a") + large + chunk("b"))
            assert await rig.acks(3) == ["a", "large", "b"]

    run(main())


@both_loops
def test_a_fault_in_a_large_frame_ends_the_connection(run: Run) -> None:
    """A fatal loss that is found on a thread closes the connection, and nothing behind it is kept."""

    async def main() -> None:
        async with Rig() as rig:
            record = b"\x82\xa1a\xdb\x00\x05\x00\x00" + b"x" * (5 << 16) + b"\xa1b\xc9\xff\xff\xff\xff"
            await rig.say(chunk("a") + b"\x93\xa3app\x01" + record + chunk("b"))
            await rig.serving
            assert [batch.tag for batch in rig.got] == [b"app", b"mpsr.loss"]

    run(main())
