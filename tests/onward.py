"""
The soak of all sources and sinks: one hub with every source, which delivers through every sink.

    python -m tests.soak --onward --minutes 30 --seed 7

    sources ─▶ hub `one` ─┬─ file ─────────────▶ files, rotated and compressed
                          ├─ forward ──TCP─────▶ hub `two`
                          ├─ jetstream, blocks ▶ NATS server ─▶ hub `three`
                          ├─ jetstream, json ──▶ NATS server ─▶ a consumer in this process
                          ├─ otlp ─────────────▶ the strict double of a collector, in this process
                          └─ exec ─────────────▶ a child that notes what it got

In the first quarter, hubs, server and child are killed at random; afterwards they are only slowed down, refused and
paused, so that memory can be compared. At the end, each place has the messages that `one` has stored: once, in the
order of each tag. What has acknowledgements (`exact.*`) is in `one` once; the rest (`loose.*`) is, since the last kill.

Not here: the source `kmsg` (the kernel's log is that of the whole machine), faults of clients and disks (tests.soak).
"""

from __future__ import annotations

import contextlib
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from producers import call
from tests.feeders import Feeder, feeders
from tests.natsserver import NatsServer
from tests.places import Child, Collected, Consumed, files_tally, memory_of, stopped
from tests.support import HubProcess, eventually, free_port
from tests.tally import Row, Tally, Watched

JOURNAL_SIZE = "256MiB"
SAMPLE_S = 0.5
GROWTH_MAX = 0.05
QUIET_S = 120.0
"""
How long no message may arrive anywhere before the rest counts as missing, and a hub may take to answer. A busy machine
takes its time.
"""

SINKS = """
[[sinks]]
type = "file"
name = "file"
from = "start"
path = "{folder}/files/{{tag}}.log"
rotate_size = "1MiB"
compress = "zstd"

[[sinks]]
type = "forward"
name = "forward"
from = "start"
timeout = "5s"
servers = ["127.0.0.1:{forward}"]

[[sinks]]
type = "jetstream"
name = "blocks"
from = "start"
servers = ["{nats}"]

[[sinks]]
type = "jetstream"
name = "json"
from = "start"
format = "json"
stream = "JSON"
servers = ["{nats}"]

[[sinks]]
type = "otlp"
name = "otlp"
from = "start"
timeout = "5s"
url = "{otlp}"

[[sinks]]
type = "exec"
name = "exec"
from = "start"
command = ["{python}", "{folder}/child.py", "{folder}/shipped"]
"""
TWO = '[[sources]]\ntype = "tcp"\naddress = "127.0.0.1:{forward}"\n'
THREE = '[[sources]]\ntype = "jetstream"\nservers = ["{nats}"]\n'


class Onward:
    """One run. *rate*: messages a second of each source, about."""

    def __init__(self, folder: Path, seed: int, *, rate: int = 200) -> None:
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.samples: list[tuple[float, dict[str, int]]] = []
        self._rate = rate
        self._lags: dict[str, int] = {}  # of the sinks, when the end began
        self._stack = contextlib.ExitStack()
        self._pause = threading.Event()
        self._folder = folder
        with contextlib.ExitStack() as undone:
            undone.push(self.__exit__)
            self._start(folder)
            undone.pop_all()

    def _start(self, folder: Path) -> None:
        enter = self._stack.enter_context
        self.nats = enter(NatsServer(folder / "nats"))
        self.collected = enter(Collected())
        self.child = Child(folder)
        (folder / "files").mkdir()
        values = {
            "folder": folder,
            "nats": self.nats.url,
            "otlp": self.collected.url,
            "forward": free_port(),
            "python": sys.executable,
        }
        self.feeders: list[Feeder] = []
        sources = enter(feeders(folder / "one", free_port(), self.feeders, self._rate))
        self.one = enter(self._hub("one", sources + SINKS.format(**values)))
        self.two = enter(self._hub("two", TWO.format(**values)))
        self.three = enter(self._hub("three", THREE.format(**values)))
        self.watched = {name: Watched(getattr(self, name).journal) for name in ("one", "two", "three")}
        self.consumed = enter(Consumed(self.nats.url, "JSON"))
        eventually(self._is_all_open, "all sources and sinks are open")
        for feeder in self.feeders:
            feeder.start()

    def _hub(self, name: str, config: str) -> HubProcess:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        (folder / "hub.toml").write_text(config)
        return HubProcess(folder, "--config", str(folder / "hub.toml"), "--journal-size", JOURNAL_SIZE, is_new=True)

    def _is_all_open(self) -> bool:
        hubs = (self.one, self.two, self.three)
        rows = [row for hub in hubs for what in ("sources", "sinks") for row in ask(hub, what)[what]]
        return all(row["state"] == "open" for row in rows)

    def run(self, seconds: float) -> None:
        """Do things at random for that time, after each of them was done once."""
        deadline = time.monotonic() + seconds
        self._sample()  # there is one however short the run is
        for action in (*KILLS, *ACTIONS):
            self._do(action)
        self._until(deadline - seconds * 3 / 4, [*KILLS, *ACTIONS])
        eventually(self._is_all_open, "all is open after the last kill")
        for feeder in self.feeders:
            feeder.be_late()
        eventually(lambda: all(feeder.has_sent_late for feeder in self.feeders), "each source goes on")
        self._until(deadline, ACTIONS)

    def end(self) -> str | None:
        """Stop sending, and let everything be delivered. Return what is wrong, if something is."""
        for feeder in self.feeders:
            feeder.end()
        for feeder in self.feeders:
            if feeder.fault:
                return f"{feeder.tag}: {feeder.fault}"
        watched = self.watched["one"]
        places = {
            "forward": self.watched["two"].tally,
            "blocks": self.watched["three"].tally,
            "json": self.consumed.tally,
            "otlp": self.collected.tally,
        }
        self._wait(lambda: self._is_stored(watched.tally), [watched.tally])
        self._wait(lambda: all(row["lag"]["messages"] == 0 for row in self._sinks()), places.values())
        self._wait(lambda: all(tally.rows == watched.tally.rows for tally in places.values()), places.values())
        rows = self._sinks()
        self._lags = {row["name"]: row["lag"]["messages"] for row in rows}
        codes = [self.one.stop(), self.two.stop(), self.three.stop()]
        for name, hub in self.watched.items():
            hub.end()
            if hub.failed:
                return f"the journal of {name}: {hub.failed}"
        if any(codes):
            return f"exit codes {codes}"
        if faults := [(row["name"], row["lost"], row["dead"]) for row in rows if row["lost"] or row["dead"]]:
            return f"lost or refused: {faults}"
        return self._compare({**places, "file": files_tally(self._folder / "files"), "exec": self.child.tally()})

    def _wait(self, is_done: Callable[[], bool], tallies: Iterable[Tally]) -> None:
        """Return when *is_done*, or when nothing has arrived in *tallies*, and no sink has delivered, for `QUIET_S`."""

        def arrived() -> list[int]:
            delivered = [row["sequence"] for row in self._sinks()]
            return [row.messages for tally in tallies for row in [*tally.rows.values()]] + delivered

        is_moving = True
        while is_moving:
            before = arrived()
            with contextlib.suppress(AssertionError):
                eventually(is_done, timeout=QUIET_S)
                return
            is_moving = arrived() != before

    def _compare(self, places: dict[str, Tally]) -> str | None:
        stored = self.watched["one"].tally.rows
        for feeder in self.feeders:
            if fault := feeder.fault_of(stored.get(feeder.tag, Row())):
                return f"{feeder.tag}: {fault}"
        for name, tally in places.items():
            for tag in stored.keys() | tally.rows.keys():
                if tally.rows.get(tag) != stored.get(tag):
                    found, expected = tally.rows.get(tag), stored.get(tag)
                    return f"{name}: of {tag} it has {found}, where {expected} is stored; at the end: {self._lags}"
        return self.collected.fault or self.consumed.fault

    def _is_stored(self, tally: Tally) -> bool:
        return all(feeder.fault_of(tally.rows.get(feeder.tag, Row())) is None for feeder in self.feeders)

    def _sinks(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ask(self.one, "sinks")["sinks"]
        return rows

    def _is_otlp_open(self) -> bool:
        return self.collected.is_good and all(row["state"] == "open" for row in self._sinks() if row["name"] == "otlp")

    @property
    def messages(self) -> int:
        """The number of messages that were stored."""
        return sum(row.messages for row in self.watched["one"].tally.rows.values())

    def __enter__(self) -> Onward:
        return self

    def __exit__(self, *_: object) -> None:
        for feeder in getattr(self, "feeders", ()):
            feeder.abandon()
        self._stack.close()

    def _until(self, deadline: float, actions: Sequence[Callable[[Onward], None]]) -> None:
        while time.monotonic() < deadline:
            for _ in range(self.dice.randint(1, 10)):
                self._sample()
                self._pause.wait(SAMPLE_S)
            self._do(self.dice.choice(actions))

    def _do(self, action: Callable[[Onward], None]) -> None:
        self.done[action.__name__] += 1
        action(self)

    def _sample(self) -> None:
        pids = {name: getattr(self, name).process.pid for name in ("one", "two", "three")} | {"nats": self.nats.pid}
        self.samples.append((time.time(), {name: memory_of(pid) for name, pid in pids.items()}))

    # What is done.

    def kill_one(self) -> None:
        self.one.kill()
        self.one.start()

    def kill_two(self) -> None:
        self.two.kill()
        self.two.start()

    def kill_three(self) -> None:
        self.three.kill()
        self.three.start()

    def kill_the_server(self) -> None:
        self.nats.kill()
        self._pause.wait(self.dice.random())
        self.nats.start()

    def kill_the_child(self) -> None:
        self.child.kill()

    def stop_a_destination_for_a_while(self) -> None:
        pid = self.dice.choice([self.two.process.pid, self.three.process.pid, self.nats.pid])
        with stopped(pid):
            self._pause.wait(self.dice.uniform(0.1, 2.0))

    def let_the_collector_misbehave(self) -> None:
        """When the sink has delivered since the last time: its pauses would grow faster than requests are refused."""
        eventually(self._is_otlp_open, "the collector has taken something again", timeout=QUIET_S)
        self.collected.misbehave(self.dice.choice(["busy", "away", "cut", "closing", "broken"]))

    def pause_a_sink(self) -> None:
        name = self.dice.choice(["file", "forward", "blocks", "json", "otlp", "exec"])
        ask(self.one, "sink_pause", name=name)
        self._pause.wait(self.dice.uniform(0.1, 1.0))
        ask(self.one, "sink_resume", name=name)

    def rotate_the_log(self) -> None:
        log = self._folder / "one" / "app.log"
        with contextlib.suppress(FileNotFoundError):
            log.rename(log.with_name("app.log.1"))


KILLS: list[Callable[[Onward], None]] = [
    Onward.kill_one,
    Onward.kill_two,
    Onward.kill_three,
    Onward.kill_the_server,
    Onward.kill_the_child,
]
ACTIONS: list[Callable[[Onward], None]] = [
    Onward.stop_a_destination_for_a_while,
    Onward.let_the_collector_misbehave,
    Onward.pause_a_sink,
    Onward.rotate_the_log,
]


def ask(hub: HubProcess, method: str, **params: Any) -> dict[str, Any]:
    """Return the answer of *hub*, for which a busy machine may take its time."""
    answer: dict[str, Any] = call(method, params, path=hub.socket, timeout=QUIET_S)
    return answer


def growth_of(samples: Sequence[tuple[float, dict[str, int]]], name: str) -> tuple[list[float], float]:
    """Return the median memory of a process in MiB in each third of the second half, and the growth of the last."""
    late = [memory[name] for _, memory in samples[len(samples) // 2 :]]
    third = max(len(late) // 3, 1)
    medians = [statistics.median(late[third * n : third * (n + 1)] or late) for n in range(3)]
    return [median / (1 << 20) for median in medians], medians[2] / medians[1] - 1


def soak(folder: Path, seed: int, minutes: float, curve: str | None) -> str | None:
    """Run, print a line, and return what is wrong. *curve*: a file for the samples of memory."""
    with Onward(folder, seed) as onward:
        onward.run(minutes * 60)
        fault = onward.end()
    if curve:
        lines = (f"{at:.1f} {' '.join(map(str, memory.values()))}\n" for at, memory in onward.samples)
        Path(curve).write_text(f"time {' '.join(onward.samples[0][1])}\n" + "".join(lines))
    memory = []
    for name in onward.samples[0][1]:
        medians, growth = growth_of(onward.samples, name)
        memory.append(f"{name}={'/'.join(f'{median:.1f}' for median in medians)}({growth:+.1%})")
        if name != "nats" and fault is None and growth > GROWTH_MAX:  # the server's garbage collector is its own matter
            fault = f"the memory of {name} grows"
    actions = " ".join(f"{name}={count}" for name, count in sorted(onward.done.items()))
    print(
        f"soak onward {'ok' if fault is None else 'FAILED: ' + fault} seed={seed} minutes={minutes:g}"
        f" messages={onward.messages} sources={len(onward.feeders)} json_repeated={onward.consumed.repeated}"
        f" memory_mib: {' '.join(memory)} {actions}",
        flush=True,
    )
    return fault
