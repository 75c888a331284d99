"""
One run: a hub, the ordinary load, alternating quiet times and attacks, and the result.

    start ─▶ warm up ─▶ (quiet ─▶ attack ─▶ until the hub answers again) ─▶ … ─▶ end ─▶ all is in the journal

Quiet times and attacks alternate, so that a machine that becomes slower affects both. During each attack, a producer
dies with messages in its spool.

What must hold afterwards:
- acknowledged messages are stored, once, in order; messages of dead producers too, within `ADOPTION_S`;
- each producer's throughput under attack is at least `share_min` of its throughput in quiet times;
- pings are answered in time, on open and on new connections;
- the hub's memory, its log, and the losses that it reports and counts are bounded by the attackers' effort;
- no user's messages are attributed to another user, no ordinary client is cut off, and the hub stops with exit code 0.

Where the machine itself is slow, because others use it, the limits of the pings rise: a process that does nothing
measures how late it runs (`ordinary.waking`), and a ping may take `WAKES` times as long.

Attackers run at a lower CPU priority: the kernel's division of CPU time among users is the administrator's choice and
is not measured. The hub runs as root here, its users are members of its socket's group.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from producers import ProducerError, call
from tests.adversaries import ordinary
from tests.adversaries.attacks import ATTACKS, Attack, Play
from tests.adversaries.entrances import SOURCES
from tests.adversaries.ledger import Author, Ledger
from tests.adversaries.stage import Actor, ActorFailed, Stage
from tests.support import HubProcess, eventually

PRODUCERS = 20
ATTACK_S, QUIET_S, WARM_UP_S = 5.0, 2.0, 1.0
ROUNDS_MAX = 50
"""Each round needs a process that waits to die. A run with more time has longer rounds."""
ANSWERS_S, PATIENCE_S = 0.25, 30.0
"""The hub has recovered when it answers a ping within `ANSWERS_S`; it must recover within `PATIENCE_S`."""
TIMED = ("p99 of", "share of")
"""How faults begin that a slow machine can cause."""
SLOW_MS = 3.0
"""A machine is slow if a process that does nothing runs later than that, one time in a hundred."""
WAKES = 5
"""A ping wakes the hub and the client, and one on a new connection the hub twice."""
ADOPTION_S = 10.0
"""Longest time from a death until the spool is stored; the hub scans the folder every 5 s."""
LOG_LINES, LOG_LINES_PER_S, LOSSES, LOSSES_PER_S = 100, 10.0, 1000, 200.0
"""Limits: a constant part, and a part per second and attacker."""
FIRST_UID, FIRST_ATTACKER, GROUP, JOURNAL_GROUP = 61_000, 62_000, 61_000, 61_999
NICE = 10


class Result(NamedTuple):
    """The measurements and the faults."""

    name: str
    faults: list[str]
    share: float
    worst_share: float
    ping_ms: tuple[float, float]
    arrival_ms: tuple[float, float]
    waking_ms: tuple[float, float]
    memory_mib: float
    recovery_s: float
    adoption_s: float
    hub_cpu: float
    log_lines: int
    losses: int
    did: Counter[str]

    @property
    def is_unsure(self) -> bool:
        """Whether only times have failed, on a machine that was slow itself: then it has to be tried again."""
        has_timed_faults = bool(self.faults) and all(fault.startswith(TIMED) for fault in self.faults)
        return has_timed_faults and self.waking_ms[1] > SLOW_MS


class Rig:
    """One hub, its ordinary load, and one attack."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self.name = name
        self.faults: list[str] = []
        self.did: Counter[str] = Counter()
        self.windows: dict[str, list[tuple[float, float]]] = {"quiet": [], "attack": []}
        self.recovery_s = 0.0
        self._attack = ATTACKS[name]
        self._folder = folder
        self._seed = seed
        self._socket, self._journal = str(folder / "hub.sock"), str(folder / "journal")
        self._uids, self._names = count(FIRST_UID), Counter[str]()
        self._deaths: dict[str, float] = {}
        self._attack_cpu_s = 0.0

    def run(self, seconds: float) -> Result:
        """Attack for *seconds* in all, in rounds; return the result."""
        rounds = min(max(1, int(seconds // ATTACK_S)), ROUNDS_MAX)
        _make_folders(self._folder, Path(self._journal))
        with contextlib.ExitStack() as stack:
            # All actors are forked before the first thread starts.
            producers = [self._hire(stack, ordinary.KINDS[at % len(ordinary.KINDS)]) for at in range(PRODUCERS)]
            clocks = [self._hire(stack, play) for play in (ordinary.pinging, ordinary.arriving, ordinary.waking)]
            dying = [self._hire(stack, ordinary.dying) for _ in range(rounds)]
            attackers = self._hire_attackers(stack, self._attack)
            sources = [option for kind, name in SOURCES.items() for option in (f"--{kind}", str(self._folder / name))]
            options = ("--group", str(GROUP), "--journal-size", "64GiB", *sources)
            hub = stack.enter_context(HubProcess(self._folder, *options))
            for actor in (*producers, *clocks):
                actor.order()
            _wait(WARM_UP_S)
            for victim in dying:
                self._quiet(seconds / rounds * QUIET_S / ATTACK_S)
                self._under_attack(seconds / rounds, hub, attackers, victim)
            return self._end(hub, producers, clocks, [*producers, *dying], attackers)

    # The parts of a run.

    def _quiet(self, seconds: float) -> None:
        begin = time.time()
        _wait(seconds)
        self.windows["quiet"].append((begin, time.time()))

    def _under_attack(self, seconds: float, hub: HubProcess, attackers: list[Actor], victim: Actor) -> None:
        victim.order(seconds=seconds)
        left, findings = self._report_of(victim)
        if not left["is_in_files"]:
            self.faults.append("a producer could not use the spool")
        begin, cpu_s = time.time(), _cpu_s(hub.process.pid)
        for attacker in attackers:
            attacker.order(seconds=seconds, session=findings.get("session", ""), bait=str(self._folder / "bait"))
        _wait(seconds / 2)
        victim.end()
        self._deaths[victim.tag] = time.time()
        _wait(begin + seconds - time.time())
        self.windows["attack"].append((begin, time.time()))
        self._attack_cpu_s += _cpu_s(hub.process.pid) - cpu_s
        for attacker in attackers:
            self.did += self._report_of(attacker)[0]
        self._recover()

    def _recover(self) -> None:
        """Wait until the hub answers within `ANSWERS_S`."""
        begin = time.monotonic()
        while time.monotonic() < begin + PATIENCE_S:
            with contextlib.suppress(ProducerError):
                call("ping", path=self._socket, timeout=ANSWERS_S)
                self.recovery_s = max(self.recovery_s, time.monotonic() - begin)
                return
        self.recovery_s = PATIENCE_S
        self.faults.append(f"no answer {PATIENCE_S:g} s after the attack")

    def _end(
        self, hub: HubProcess, producers: list[Actor], clocks: list[Actor], authors: list[Actor], attackers: list[Actor]
    ) -> Result:
        for actor in (*clocks, *producers):
            actor.stop()
        pings, arrivals, wakings = (self._latencies(actor) for actor in clocks)
        reports = {actor.tag: self._report_of(actor)[0] for actor in producers}
        ordered = {actor.tag: Author(actor.uid, actor.name in (*ordinary.ORDERED, "dying")) for actor in authors}
        ledger = Ledger(self._journal, ordered, frozenset(actor.uid for actor in attackers))
        self._await_adoption(ledger)
        memory, losses = _memory_mib(hub.process.pid), 0
        with contextlib.suppress(ProducerError):
            losses = hub.stats()["losses"]
        self._stop(hub)
        ledger.read()
        ledger.close()
        result = Result(
            self.name,
            self.faults,
            *self._shares(ledger, [actor.tag for actor in producers]),
            ping_ms=pings,
            arrival_ms=arrivals,
            waking_ms=wakings,
            memory_mib=memory,
            recovery_s=self.recovery_s,
            adoption_s=self._adoption_s(ledger),
            hub_cpu=self._attack_cpu_s / max(self._attack_s, 0.1),
            log_lines=len(hub.log),
            losses=ledger.losses,
            did=self.did,
        )
        self._judge(result, ledger, reports, losses, len(attackers))
        return result

    def _await_adoption(self, ledger: Ledger) -> None:
        """Wait until the spools of the dead producers are stored, at most `ADOPTION_S` after the last death."""

        def is_there() -> bool:
            ledger.read()
            return all(ledger.stored(tag) == ordinary.DYING_MESSAGES for tag in self._deaths)

        with contextlib.suppress(AssertionError):
            eventually(is_there, timeout=max(ADOPTION_S + max(self._deaths.values()) - time.time(), 1.0))

    def _stop(self, hub: HubProcess) -> None:
        """Stop the hub; a late end or a nonzero exit code is a fault."""
        if hub.process.poll() is not None:
            self.faults.append(f"the hub ended by itself ({hub.process.returncode}): {hub.log[-3:]}")
            return
        hub.process.terminate()
        try:
            code = hub.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            self.faults.append(f"the hub's exit code is {code}")

    # The result.

    def _judge(
        self, result: Result, ledger: Ledger, reports: dict[str, Counter[str]], losses: int, attackers: int
    ) -> None:
        fail = self.faults.append
        self.faults += ledger.faults
        for tag, report in reports.items():
            if report["late"]:
                fail(f"{tag}: {report['late']} messages are not acknowledged after {ordinary.PATIENCE_S:g} s")
            if report["cut_off"]:
                fail(f"{tag}: cut off {report['cut_off']} times")
            if (stored := ledger.stored(tag)) < report["sent"] - report["late"]:
                fail(f"{tag}: {stored} of {report['sent']} messages are stored")
        for tag in self._deaths:
            if (stored := ledger.stored(tag)) != ordinary.DYING_MESSAGES:
                fail(f"{tag}: {stored} of {ordinary.DYING_MESSAGES} messages of a dead producer are stored")
        slow_ms = WAKES * result.waking_ms[1]
        for what, found, limit in (
            ("share of the throughput", -result.worst_share, -self._attack.share_min),
            ("p99 of a ping, ms", result.ping_ms[1], max(self._attack.ping_ms_max, slow_ms)),
            ("p99 of a new connection's ping, ms", result.arrival_ms[1], max(self._attack.arrival_ms_max, slow_ms)),
            ("memory, MiB", result.memory_mib, self._attack.memory_mib_max),
            ("CPU of the hub", result.hub_cpu, self._attack.cpu_max),
            ("adoption, s", result.adoption_s, ADOPTION_S),
            ("lines of the log", result.log_lines, self._allowed(LOG_LINES, LOG_LINES_PER_S, attackers)),
            ("messages about losses", result.losses, self._allowed(LOSSES, LOSSES_PER_S, attackers)),
            ("losses counted", losses, result.did["bytes"] // 3 + LOSSES),
        ):
            if found > limit:
                fail(f"{what}: {abs(found):.5g}, the limit is {abs(limit):.5g}")
        if not self._attack.bite(result.did):
            fail(f"the attack did not bite: {dict(result.did)}")

    def _allowed(self, at_once: int, per_s: float, attackers: int) -> float:
        return at_once + per_s * self._attack_s * attackers

    @property
    def _attack_s(self) -> float:
        return sum(end - begin for begin, end in self.windows["attack"])

    def _shares(self, ledger: Ledger, tags: list[str]) -> tuple[float, float]:
        """Return the throughput under attack as a share of that in quiet times: of all producers, and the lowest."""

        def rates(kind: str, tag: str) -> list[float]:
            return [ledger.rate(tag, int(begin * 1e9), int(end * 1e9)) for begin, end in self.windows[kind]]

        # The best of the quiet times: the hub may still be recovering from an attack.
        quiet = {tag: max(rates("quiet", tag)) for tag in tags}
        attacked = {tag: sum(rates("attack", tag)) / len(self.windows["attack"]) for tag in tags}
        if not all(quiet.values()):
            self.faults.append(f"nothing to compare with: {quiet}")
            return 0.0, 0.0
        return sum(attacked.values()) / sum(quiet.values()), min(attacked[tag] / quiet[tag] for tag in tags)

    def _latencies(self, clock: Actor) -> tuple[float, float]:
        """Return the median and the 99th percentile in milliseconds of the pings due during attacks."""
        did, findings = self._report_of(clock)
        if did["cut_off"]:
            self.faults.append(f"{clock.name}: cut off")
        offset = time.time() - time.monotonic()
        samples = sorted(
            late_s * 1e3
            for due, late_s in findings.get("samples", [])
            if any(begin <= due + offset <= end for begin, end in self.windows["attack"])
        )
        if not samples:
            return float("inf"), float("inf")
        return samples[len(samples) // 2], samples[min(int(len(samples) * 0.99), len(samples) - 1)]

    def _adoption_s(self, ledger: Ledger) -> float:
        """Return the longest time in seconds from a death until the spool was stored."""
        return max((ledger.latest_s(tag) - death for tag, death in self._deaths.items()), default=0.0)

    # Actors.

    def _hire(self, stack: contextlib.ExitStack, play: Play) -> Actor:
        name = play.__name__
        self._names[name] += 1
        stage = self._stage(f"ordinary.{name}.{self._names[name]}")
        return _enter(stack, Actor(play, stage, uid=next(self._uids), groups=[GROUP]))

    def _hire_attackers(self, stack: contextlib.ExitStack, attack: Attack) -> list[Actor]:
        groups = [GROUP, JOURNAL_GROUP] if attack.reads_journal else [GROUP]
        return [
            _enter(stack, Actor(play, self._stage(f"adversary.{play.__name__}"), uid=uid, groups=groups, nice=NICE))
            for uid, play in enumerate(attack.plays, FIRST_ATTACKER)
        ]

    def _stage(self, tag: str) -> Stage:
        return Stage(self._socket, self._journal, tag, f"{self._seed} {tag}")

    def _report_of(self, actor: Actor) -> tuple[Counter[str], dict[str, Any]]:
        """Return an actor's counters and findings; if it failed, record a fault and return empty ones."""
        try:
            return actor.report()
        except ActorFailed as error:
            self.faults.append(str(error))
            return Counter(), {}


def run(name: str, *, seconds: float, seed: int) -> Result:
    """Run one attack against a fresh hub, for *seconds* or as long as a verdict takes."""
    with tempfile.TemporaryDirectory(prefix="mpsr-") as folder:
        os.chmod(folder, 0o755)  # other users must reach the socket
        return Rig(Path(folder), name, seed).run(max(seconds, ATTACKS[name].seconds_min))


def _make_folders(folder: Path, journal: Path) -> None:
    journal.mkdir()
    os.chown(journal, -1, JOURNAL_GROUP)
    journal.chmod(0o2750)  # the members of its group may read the journal
    bait = folder / "bait"
    bait.touch()
    bait.chmod(0o666)
    pipe = folder / SOURCES["fifo"]
    os.mkfifo(pipe)
    os.chown(pipe, FIRST_ATTACKER, -1)  # what comes through a pipe is its owner's
    pipe.chmod(0o666)


def _enter(stack: contextlib.ExitStack, actor: Actor) -> Actor:
    stack.callback(actor.end)
    return actor


def _wait(seconds: float) -> None:
    time.sleep(max(seconds, 0.0))  # the length of a phase: no event ends it


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process (proc(5)); 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    """Return the peak memory of a process (VmHWM of proc(5)); infinity if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), float("inf"))
