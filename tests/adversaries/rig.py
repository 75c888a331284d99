"""
One run: a hub, the ordinary load, alternating quiet times and attacks, and a result for each attack.

    start ─▶ warm up ─▶ (quiet ─▶ attack ─▶ until the hub answers again) ─▶ … ─▶ end ─▶ all is in the journal

Quiet times and attacks alternate, so that a machine that becomes slower affects both. During each attack, a producer
dies with messages in its spool. Several attacks can follow each other on one hub: this is quicker, and shows whether
one leaves something behind. What cannot be assigned to one attack, such as a lost message, is a fault of the run.

What must hold afterwards:
- acknowledged messages are stored, once, in order; messages of dead producers too, within `ADOPTION_S`;
- each producer's throughput under attack is at least `share_min` of its throughput in quiet times;
- pings are answered in time, on open and on new connections;
- the hub's memory, its log, and the losses that it reports and counts are bounded by the attackers' effort;
- no user's messages are attributed to another user, no ordinary client is cut off, and the hub stops with exit code 0.

Where the machine itself is slow, because others use it, the limits of the pings rise: a process that does nothing
measures how late it runs (`ordinary.waking`), and a ping may take `WAKES` times as long. The limits of the pings and of
the hub's CPU time are those of a fast processor (tests.speed), and rise as far as this one is slower during the attack.

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
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from hub.address import Address
from producers import ProducerError, call
from tests.adversaries import ordinary
from tests.adversaries.attacks import ATTACKS, Attack, Play
from tests.adversaries.entrances import SOURCES
from tests.adversaries.ledger import Author, Ledger
from tests.adversaries.stage import Actor, ActorFailed, Stage
from tests.certificates import make_certificates
from tests.speed import slowness
from tests.support import HubProcess, eventually

PRODUCERS = 20
ATTACK_S, QUIET_S, WARM_UP_S = 5.0, 2.0, 1.0
QUIET_MIN_S = 0.45
"""
A quiet time has at most `QUIET_S`, and in shorter rounds the same share of the attack, but `QUIET_MIN_S`: a producer
sends 20 messages per second, and the rates of shorter times would be coarse.
"""
STOP_S = 1.0
"""The hub's `stop_timeout`: reports of losses are rationed, and those of the attackers use up any time there is."""
ROUNDS_MAX = 50
"""Each round needs a process that waits to die. A run with more time has longer rounds."""
ANSWERS_S, PATIENCE_S = 0.25, 30.0
"""The hub has recovered when it answers a ping within `ANSWERS_S`; it must recover within `PATIENCE_S`."""
TIMED = ("p99 of", "share of", "CPU of", "the attack did not bite")
"""How faults begin that a slow machine can cause; it slows the attackers, too."""
LEFT_BEHIND = (*TIMED, "memory", "losses counted")
"""How faults begin that an earlier attack on the same hub can cause: the hub may still have its memory and losses."""
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
    """The measurements and the faults of one attack."""

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
        """Whether a slow machine may be the cause, and it was slow, or had a crowd: then it has to be tried again."""
        return self._fails_only_by(TIMED) and (ATTACKS[self.name].is_crowd or self.waking_ms[1] > SLOW_MS)

    @property
    def needs_own_hub(self) -> bool:
        """Whether an earlier attack on the same hub can be the cause: then only a hub of its own gives a verdict."""
        return self._fails_only_by(LEFT_BEHIND)

    def _fails_only_by(self, kinds: tuple[str, ...]) -> bool:
        return bool(self.faults) and all(fault.startswith(kinds) for fault in self.faults)


class Run(NamedTuple):
    """The results by attack, and the faults that are no single attack's."""

    results: dict[str, Result]
    faults: list[str]


class _Trial:
    """One attack of a run: its attackers, the producers that die in it, and what was measured."""

    def __init__(self, name: str, attackers: list[Actor], dying: list[Actor]) -> None:
        self.name = name
        self.attack = ATTACKS[name]
        self.attackers = attackers
        self.dying = dying
        self.faults: list[str] = []
        self.did: Counter[str] = Counter()
        self.windows: list[tuple[float, float]] = []
        self.deaths: dict[str, float] = {}
        self.recovery_s = self.cpu_s = self.memory_mib = 0.0
        self.slowness = 1.0
        self.losses_counted = self.losses = self.log_lines = 0

    @property
    def attack_s(self) -> float:
        return sum(end - begin for begin, end in self.windows)

    def allowed(self, at_once: int, per_s: float) -> float:
        """Return a limit that grows with the attackers' effort."""
        return at_once + per_s * self.attack_s * len(self.attackers)


class Rig:
    """One hub, its ordinary load, and some attacks."""

    def __init__(self, folder: Path, names: Sequence[str], seed: int) -> None:
        self.faults: list[str] = []
        self._names = names
        self._quiet_windows: list[tuple[float, float]] = []
        self._folder = folder
        self._seed = seed
        self._socket, self._journal = str(folder / "hub.sock"), str(folder / "journal")
        self._uids, self._attacker_uids = count(FIRST_UID), count(FIRST_ATTACKER)
        self._tags = Counter[str]()
        self._port = 0

    def run(self, seconds: float) -> Run:
        """Attack for *seconds* in each way, in rounds, or as long as a verdict takes; return the results."""
        _make_folders(self._folder, Path(self._journal))
        with contextlib.ExitStack() as stack:
            # All actors are forked before the first thread starts.
            producers = [self._hire(stack, ordinary.KINDS[at % len(ordinary.KINDS)]) for at in range(PRODUCERS)]
            clocks = [self._hire(stack, play) for play in (ordinary.pinging, ordinary.arriving, ordinary.waking)]
            trials = [self._prepare(stack, name, seconds) for name in self._names]
            sources = [option for kind, name in SOURCES.items() for option in (f"--{kind}", str(self._folder / name))]
            config = ("--config", _port_with_a_key(self._folder))
            limits = ("--journal-size", "64GiB", "--stop-timeout", f"{STOP_S:g}s")
            options = ("--group", str(GROUP), *limits, *sources, *config)
            hub = stack.enter_context(HubProcess(self._folder, *options, is_new=True))
            self._port = _port_of(hub)
            ledger = self._ledger([*producers, *(victim for trial in trials for victim in trial.dying)], trials)
            stack.callback(ledger.close)
            for actor in (*producers, *clocks):
                actor.order()
            _wait(WARM_UP_S)
            for trial in trials:
                self._try(trial, max(seconds, trial.attack.seconds_min) / len(trial.dying), hub, ledger)
            return self._end(hub, ledger, producers, clocks, trials)

    # The parts of a run.

    def _prepare(self, stack: contextlib.ExitStack, name: str, seconds: float) -> _Trial:
        rounds = min(max(1, int(seconds // ATTACK_S)), ROUNDS_MAX)
        dying = [self._hire(stack, ordinary.dying) for _ in range(rounds)]
        return _Trial(name, self._hire_attackers(stack, ATTACKS[name]), dying)

    def _ledger(self, authors: Sequence[Actor], trials: Sequence[_Trial]) -> Ledger:
        ordered = {actor.tag: Author(actor.uid, actor.name in (*ordinary.ORDERED, "dying")) for actor in authors}
        strangers = frozenset(attacker.uid for trial in trials for attacker in trial.attackers)
        return Ledger(self._journal, ordered, strangers)

    def _try(self, trial: _Trial, seconds: float, hub: HubProcess, ledger: Ledger) -> None:
        """Run all rounds of one attack, and measure what belongs to it alone."""
        pid = hub.process.pid
        lines, losses, counted = len(hub.log), ledger.losses, _losses_counted(hub)
        _forget_peak(pid)
        for victim in trial.dying:
            self._quiet(max(min(seconds / ATTACK_S, 1.0) * QUIET_S, QUIET_MIN_S))
            self._under_attack(trial, seconds, hub, victim)
        ledger.read()
        trial.log_lines, trial.losses = len(hub.log) - lines, ledger.losses - losses
        trial.losses_counted = _losses_counted(hub) - counted
        trial.memory_mib = _memory_mib(pid)

    def _quiet(self, seconds: float) -> None:
        begin = time.time()
        _wait(seconds)
        self._quiet_windows.append((begin, time.time()))

    def _under_attack(self, trial: _Trial, seconds: float, hub: HubProcess, victim: Actor) -> None:
        victim.order(seconds=seconds)
        left, findings = self._report_of(victim, trial.faults)
        if not left["is_in_files"]:
            trial.faults.append("a producer could not use the spool")
        begin, cpu_s = time.time(), _cpu_s(hub.process.pid)
        for attacker in trial.attackers:
            attacker.order(
                seconds=seconds,
                session=findings.get("session", ""),
                bait=str(self._folder / "bait"),
                tcp=self._port,
            )
        _wait(seconds / 2)
        trial.slowness = max(trial.slowness, slowness())
        victim.end()
        trial.deaths[victim.tag] = time.time()
        _wait(begin + seconds - time.time())
        trial.windows.append((begin, time.time()))
        trial.cpu_s += _cpu_s(hub.process.pid) - cpu_s
        for attacker in trial.attackers:
            trial.did += self._report_of(attacker, trial.faults)[0]
        self._recover(trial)

    def _recover(self, trial: _Trial) -> None:
        """Wait until the hub answers within `ANSWERS_S`."""
        begin = time.monotonic()
        while time.monotonic() < begin + PATIENCE_S:
            with contextlib.suppress(ProducerError):
                call("ping", path=self._socket, timeout=ANSWERS_S)
                trial.recovery_s = max(trial.recovery_s, time.monotonic() - begin)
                return
        trial.recovery_s = PATIENCE_S
        trial.faults.append(f"no answer {PATIENCE_S:g} s after the attack")

    def _end(
        self, hub: HubProcess, ledger: Ledger, producers: list[Actor], clocks: list[Actor], trials: list[_Trial]
    ) -> Run:
        for actor in (*clocks, *producers):
            actor.stop()
        samples = [self._samples(clock) for clock in clocks]
        reports = {actor.tag: self._report_of(actor, self.faults)[0] for actor in producers}
        _await_adoption(ledger, {tag: death for trial in trials for tag, death in trial.deaths.items()})
        self._stop(hub)
        ledger.read()
        self._judge_all(ledger, reports)
        rates = [self._quiet_rate(ledger, actor.tag) for actor in producers]
        if not all(rates):
            self.faults.append(f"nothing to compare with: {rates}")
        results = {}
        for trial in trials:
            result = _result(trial, ledger, dict(zip(reports, rates, strict=True)), samples)
            _judge(result, trial, ledger)
            results[trial.name] = result
        return Run(results, self.faults)

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

    # The results.

    def _judge_all(self, ledger: Ledger, reports: dict[str, Counter[str]]) -> None:
        fail = self.faults.append
        self.faults += ledger.faults
        for tag, report in reports.items():
            if report["late"]:
                fail(f"{tag}: {report['late']} messages are not acknowledged after {ordinary.PATIENCE_S:g} s")
            if report["cut_off"]:
                fail(f"{tag}: cut off {report['cut_off']} times")
            if (stored := ledger.stored(tag)) < report["sent"] - report["late"]:
                fail(f"{tag}: {stored} of {report['sent']} messages are stored")

    def _quiet_rate(self, ledger: Ledger, tag: str) -> float:
        """Return a producer's best throughput in quiet times: the hub may still be recovering from an attack."""
        return max(_rate(ledger, tag, window) for window in self._quiet_windows)

    def _samples(self, clock: Actor) -> list[tuple[float, float]]:
        """Return when each ping was due, in seconds since the epoch, and how long it took, in milliseconds."""
        did, findings = self._report_of(clock, self.faults)
        if did["cut_off"]:
            self.faults.append(f"{clock.name}: cut off")
        offset = time.time() - time.monotonic()
        return [(due + offset, late_s * 1e3) for due, late_s in findings.get("samples", [])]

    # Actors.

    def _hire(self, stack: contextlib.ExitStack, play: Play) -> Actor:
        name = play.__name__
        self._tags[name] += 1
        stage = self._stage(f"ordinary.{name}.{self._tags[name]}")
        return _enter(stack, Actor(play, stage, uid=next(self._uids), groups=[GROUP]))

    def _hire_attackers(self, stack: contextlib.ExitStack, attack: Attack) -> list[Actor]:
        groups = [GROUP, JOURNAL_GROUP] if attack.reads_journal else [GROUP]
        return [
            _enter(stack, Actor(play, self._stage(f"adversary.{play.__name__}"), uid=uid, groups=groups, nice=NICE))
            for play, uid in zip(attack.plays, self._attacker_uids, strict=False)
        ]

    def _stage(self, tag: str) -> Stage:
        return Stage(self._socket, self._journal, tag, f"{self._seed} {tag}")

    @staticmethod
    def _report_of(actor: Actor, faults: list[str]) -> tuple[Counter[str], dict[str, Any]]:
        """Return an actor's counters and findings; if it failed, record a fault and return empty ones."""
        try:
            return actor.report()
        except ActorFailed as error:
            faults.append(str(error))
            return Counter(), {}


def run(names: Sequence[str], *, seconds: float, seed: int) -> Run:
    """Run attacks one after the other against a fresh hub."""
    with tempfile.TemporaryDirectory(prefix="mpsr-") as folder:
        os.chmod(folder, 0o755)  # other users must reach the socket
        return Rig(Path(folder), names, seed).run(seconds)


def run_alone(name: str, *, seconds: float, seed: int) -> Result:
    """Run one attack against a hub of its own. Every fault is its own, too."""
    results, faults = run([name], seconds=seconds, seed=seed)
    return results[name]._replace(faults=[*results[name].faults, *faults])


def _result(
    trial: _Trial, ledger: Ledger, quiet: dict[str, float], samples: Sequence[list[tuple[float, float]]]
) -> Result:
    attacked = {tag: sum(_rate(ledger, tag, window) for window in trial.windows) / len(trial.windows) for tag in quiet}
    pings, arrivals, wakings = (_latencies(each, trial.windows) for each in samples)
    return Result(
        trial.name,
        trial.faults,
        share=sum(attacked.values()) / max(sum(quiet.values()), 0.1),
        worst_share=min(attacked[tag] / max(quiet[tag], 0.1) for tag in quiet),
        ping_ms=pings,
        arrival_ms=arrivals,
        waking_ms=wakings,
        memory_mib=trial.memory_mib,
        recovery_s=trial.recovery_s,
        adoption_s=max((ledger.latest_s(tag) - death for tag, death in trial.deaths.items()), default=0.0),
        hub_cpu=trial.cpu_s / max(trial.attack_s, 0.1),
        log_lines=trial.log_lines,
        losses=trial.losses,
        did=trial.did,
    )


def _judge(result: Result, trial: _Trial, ledger: Ledger) -> None:
    fail, attack = result.faults.append, trial.attack
    for tag in trial.deaths:
        if (stored := ledger.stored(tag)) != ordinary.DYING_MESSAGES:
            fail(f"{tag}: {stored} of {ordinary.DYING_MESSAGES} messages of a dead producer are stored")
    slow, slow_ms = trial.slowness, WAKES * result.waking_ms[1]
    for what, found, limit in (
        ("share of the throughput", -result.worst_share, -attack.share_min),
        ("p99 of a ping, ms", result.ping_ms[1], max(attack.ping_ms_max * slow, slow_ms)),
        ("p99 of a new connection's ping, ms", result.arrival_ms[1], max(attack.arrival_ms_max * slow, slow_ms)),
        ("memory, MiB", result.memory_mib, attack.memory_mib_max),
        ("CPU of the hub", result.hub_cpu, attack.cpu_max * slow),
        ("adoption, s", result.adoption_s, ADOPTION_S),
        ("lines of the log", result.log_lines, trial.allowed(LOG_LINES, LOG_LINES_PER_S)),
        ("messages about losses", result.losses, trial.allowed(LOSSES, LOSSES_PER_S)),
        ("losses counted", trial.losses_counted, result.did["bytes"] // 3 + LOSSES),
    ):
        if found > limit:
            fail(f"{what}: {abs(found):.5g}, the limit is {abs(limit):.5g}")
    if not attack.bite(result.did):
        fail(f"the attack did not bite: {dict(result.did)}")


def _rate(ledger: Ledger, tag: str, window: tuple[float, float]) -> float:
    begin, end = window
    return ledger.rate(tag, int(begin * 1e9), int(end * 1e9))


def _latencies(samples: Sequence[tuple[float, float]], windows: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds of the pings due in *windows*."""
    late = sorted(ms for due, ms in samples if any(begin <= due <= end for begin, end in windows))
    if not late:
        return float("inf"), float("inf")
    return late[len(late) // 2], late[min(int(len(late) * 0.99), len(late) - 1)]


def _await_adoption(ledger: Ledger, deaths: dict[str, float]) -> None:
    """Wait until the spools of the dead producers are stored, at most `ADOPTION_S` after the last death."""

    def is_there() -> bool:
        ledger.read()
        return all(ledger.stored(tag) == ordinary.DYING_MESSAGES for tag in deaths)

    with contextlib.suppress(AssertionError):
        eventually(is_there, timeout=max(ADOPTION_S + max(deaths.values()) - time.time(), 1.0))


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


def _port_with_a_key(folder: Path) -> str:
    """
    Write a configuration with a source on TCP that needs TLS and a shared key, in which all may read messages; return
    its path.
    """
    server = make_certificates(folder).server
    key, config = folder / "key", folder / "hub.toml"
    key.touch(0o600)
    key.write_bytes(os.urandom(16).hex().encode())
    values = {"address": "127.0.0.1:0", "shared_key_file": str(key), "tls_cert": server.cert, "tls_key": server.key}
    lines = [f'{name} = "{value}"' for name, value in values.items()]
    access = ["[[access]]", 'allow = ["all"]', 'read = ["*"]']
    config.write_text("\n".join(["[[sources]]", 'type = "tcp"', *lines, *access]))
    return str(config)


def _port_of(hub: HubProcess) -> int:
    """Return the port of the source on TCP."""
    (place,) = [source["path"] for source in hub.stats()["sources"] if source["type"] == "tcp"]
    return Address(place).port


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


def _losses_counted(hub: HubProcess) -> int:
    """Return the hub's counter of losses; 0 if it does not answer."""
    try:
        return int(hub.stats()["losses"])
    except ProducerError:
        return 0


def _forget_peak(pid: int) -> None:
    """Let the peak memory of a process begin anew (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory_mib(pid: int) -> float:
    """Return the peak memory of a process (VmHWM of proc(5)); infinity if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), float("inf"))
