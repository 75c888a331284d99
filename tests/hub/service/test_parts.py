"""hub.service.parts: parts are started in order and stopped in reverse order, and no part fails unnoticed."""

from __future__ import annotations

import asyncio
import json

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


async def serve_at_once() -> float:
    return 30.0


async def serve_for_ever() -> float:
    await asyncio.Event().wait()
    raise AssertionError


@both_loops
def test_order(run: Run) -> None:
    """Each part has begun and is ready before the next one starts; each has stopped before the one before it stops."""
    log: list[str] = []
    recorded = [Recorded("a", log), Recorded("b", log)]

    async def serve() -> float:
        log.append("serve")
        return 30.0

    run(run_parts([each.part for each in recorded], serve))
    starts = ["a.run", "a.ready", "b.run", "b.ready"]
    assert log == [*starts, "serve", "b.stop", "b.cancelled", "a.stop", "a.cancelled"]
    assert 0 < recorded[0].timeout < recorded[1].timeout <= 30.0


@both_loops
def test_one_deadline(run: Run) -> None:
    """A part whose turn comes after the deadline gets its grace, and no more."""
    recorded = [Recorded("a", []), Recorded("b", [])]

    async def serve() -> float:
        return -1e6

    run(run_parts([recorded[0].part._replace(grace_s=0.5), recorded[1].part], serve))
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
        run(run_parts(parts, serve_at_once))
    assert raised.value is error
    assert {each.partition(".")[0] for each in log if each.endswith(".run")} == {
        each.partition(".")[0] for each in log if each.endswith(".cancelled")
    } | ({f"{failing}"} if at == "run" else set())
    assert capsys.readouterr().err == ""


@both_loops
def test_a_part_that_fails_while_serving(run: Run) -> None:
    """A service that nobody stops ends when one of its parts fails, with the cause that the error had."""
    cause = OSError("cause")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError from cause

    with pytest.raises(ZeroDivisionError) as raised:
        run(run_parts([Recorded("a", []).part, Part("b", fail)], serve_for_ever))
    assert raised.value.__cause__ is cause


@both_loops
def test_errors_after_the_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The first error is raised. Further ones are logged, also those in a group of a part's own."""

    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(Recorded("x", [], at="run").run())

    parts = [Recorded("a", [], at="cancelled").part, Part("b", fail)]
    with pytest.raises(ZeroDivisionError, match="x"):
        run(run_parts(parts, serve_for_ever))
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["error"]) == ("hub.failed_again", "ZeroDivisionError('a')")


@both_loops
def test_cancelled(run: Run) -> None:
    """When the service is cancelled, so are its parts."""
    log: list[str] = []

    async def main() -> None:
        running = asyncio.create_task(run_parts([Recorded("a", log).part], serve_for_ever))
        await until(lambda: log)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main())
    assert log[0] == "a.run"
    assert log[-1] == "a.cancelled"
