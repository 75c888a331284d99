"""hub.service.parts: parts are started in order and stopped in reverse order, and no part fails unnoticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from hub.service.parts import Part, run_parts
from tests.hub.clients import Run, both_loops, until


class Recorded:
    """A part that records what happens to it. It fails at *at*: ``run``, ``ready``, ``stop`` or ``cancelled``."""

    def __init__(self, name: str, log: list[str], *, at: str = "", error: BaseException | None = None) -> None:
        self._name, self._log, self._at = name, log, at
        self._error = error or ZeroDivisionError(name)
        self.part = Part(name, self.run, ready=self.ready, stop=self.stop)
        self.timeout = 0.0

    async def run(self) -> None:
        self._note("run")
        try:
            await asyncio.Event().wait()
        finally:
            self._note("cancelled")

    async def ready(self) -> None:
        await asyncio.sleep(0)
        self._note("ready")

    async def stop(self, timeout: float) -> None:
        self.timeout, loop = timeout, asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: loop.time() > began)
        self._note("stop")

    def _note(self, what: str) -> None:
        self._log.append(f"{self._name}.{what}")
        if what == self._at:
            raise self._error


async def serve_at_once() -> None:
    """Be stopped at once."""


async def serve_for_ever() -> None:
    await asyncio.Event().wait()


async def run_all(
    parts: Sequence[Part], serve: Callable[[], Awaitable[None]] = serve_at_once, *, timeout: float = 30.0
) -> None:
    await run_parts(parts, serve, stop_timeout=lambda: timeout)


@both_loops
def test_order(run: Run) -> None:
    """Each part has begun and is ready before the next one starts; each has stopped before the one before it stops."""
    log: list[str] = []
    recorded = [Recorded("a", log), Recorded("b", log)]

    async def serve() -> None:
        log.append("serve")

    run(run_all([each.part for each in recorded], serve))
    starts = ["a.run", "a.ready", "b.run", "b.ready"]
    assert log == [*starts, "serve", "b.stop", "b.cancelled", "a.stop", "a.cancelled"]
    assert 0 < recorded[0].timeout < recorded[1].timeout <= 30.0


@both_loops
def test_a_part_without_ready_has_begun(run: Run) -> None:
    """A part that is ready at once has begun before the next one starts, and before the service serves."""
    log: list[str] = []

    async def begin(name: str) -> None:
        log.append(name)

    def part(name: str) -> Part:
        def run() -> Coroutine[Any, Any, None]:
            log.append(f"before {name}")
            return begin(name)

        return Part(name, run)

    run(run_all([part("a"), part("b")], lambda: begin("serve")))
    assert log == ["before a", "a", "before b", "b", "serve"]


@both_loops
def test_one_deadline(run: Run) -> None:
    """A part whose turn comes after the deadline gets its grace, and no more."""
    recorded = [Recorded("a", []), Recorded("b", [])]
    run(run_all([recorded[0].part._replace(grace_s=0.5), recorded[1].part], timeout=-1e6))
    assert recorded[0].timeout == 0.5
    assert recorded[1].timeout == 0


@both_loops
@pytest.mark.parametrize("at", ["run", "ready", "stop"])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_part_that_fails(run: Run, at: str, failing: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its error is raised as it is, and every part that was started is cancelled."""
    log: list[str] = []
    error = ZeroDivisionError("ours")
    parts = [Recorded(f"{n}", log, at=at if n == failing else "", error=error).part for n in range(3)]
    with pytest.raises(ZeroDivisionError) as raised:
        run(run_all(parts))
    assert raised.value is error
    assert {each.partition(".")[0] for each in log if each.endswith(".run")} == {
        each.partition(".")[0] for each in log if each.endswith(".cancelled")
    } | ({f"{failing}"} if at == "run" else set())
    said = [json.loads(line)["name"] for line in capsys.readouterr().err.splitlines()]
    assert said == ([f"{failing}"] if at == "run" else [])


@both_loops
@pytest.mark.parametrize("is_vital", [False, True])
def test_a_part_that_fails_while_serving(run: Run, is_vital: bool) -> None:
    """The other parts are stopped in order, or cancelled if the part is vital. The error keeps its cause."""
    cause, log = OSError("cause"), list[str]()

    async def fail() -> None:
        await until(lambda: "c.ready" in log)
        raise ZeroDivisionError from cause

    parts = [Recorded("a", log).part, Part("b", fail, is_vital=is_vital), Recorded("c", log).part]
    with pytest.raises(ZeroDivisionError) as raised:
        run(run_all(parts, serve_for_ever))
    assert raised.value.__cause__ is cause
    expected = {"a.cancelled", "c.cancelled"} if is_vital else ["c.stop", "c.cancelled", "a.stop", "a.cancelled"]
    assert type(expected)(log[log.index("c.ready") + 1 :]) == expected


@both_loops
def test_a_part_that_fails_during_the_start(run: Run) -> None:
    """No further part is started, and those that were are stopped, also the one that is not ready yet."""
    log: list[str] = []

    async def fail() -> None:
        await until(lambda: "b.run" in log)
        raise ZeroDivisionError

    slow = Recorded("b", log).part._replace(ready=serve_for_ever)
    with pytest.raises(ZeroDivisionError):
        run(run_all([Part("a", fail), slow, Recorded("c", log).part], serve_for_ever))
    assert log == ["b.run", "b.stop", "b.cancelled"]


@both_loops
def test_a_vital_part_that_fails_during_the_stop(run: Run) -> None:
    """The others are cancelled at once: a stop that waits for the vital part's work would wait for its timeout."""
    stopping = asyncio.Event()

    async def fail() -> None:
        await stopping.wait()
        raise ZeroDivisionError

    async def stop(_: float) -> None:
        stopping.set()
        await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        run(run_all([Part("a", fail, is_vital=True), Part("b", serve_for_ever, stop=stop)]))


@both_loops
@pytest.mark.parametrize(
    ("at", "events"),
    [("cancelled", ["hub.part_failed", "hub.part_failed"]), ("stop", ["hub.part_failed", "hub.stop_failed"])],
)
def test_errors_after_the_first(run: Run, at: str, events: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The first error is raised, also if it comes in a group of the part's own. Further ones are logged."""

    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(Recorded("x", [], at="run").run())

    parts = [Recorded("a", [], at=at).part, Part("b", fail, is_vital=at == "cancelled")]
    with pytest.raises(ZeroDivisionError, match="x"):
        run(run_all(parts, serve_for_ever))
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in said] == events
    assert said[1]["error"] == "ZeroDivisionError('a')"


@both_loops
def test_cancelled(run: Run) -> None:
    """When the service is cancelled, so are its parts."""
    log: list[str] = []

    async def main() -> None:
        running = asyncio.create_task(run_all([Recorded("a", log).part], serve_for_ever))
        await until(lambda: log)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main())
    assert log[0] == "a.run"
    assert log[-1] == "a.cancelled"
