"""
The table of attacks: the plays of each attack, and a check that the attack took place.

A defence may weaken an attack: the hub refuses, cuts off, or stops reading. Each *bite* accepts these outcomes too, and
no others. An attack that did nothing is a failure of the rig and not a success of the hub.

Always true: every play is in one row, and in `everything`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.adversaries import crowds, entrances, forgeries, readers, streams
from tests.adversaries.stage import Stage

Play = Callable[[Stage], Iterator[None]]
MIB = 1 << 20


class Attack(NamedTuple):
    """One attack: each of *plays* runs as a separate user; *bite* checks the sum of their reports."""

    plays: tuple[Play, ...]
    bite: Callable[[Counter[str]], bool]
    reads_journal: bool = False
    cpu_max: float = math.inf
    """Highest CPU usage of the hub, in processors."""
    share_min: float = 0.5
    """Lowest share of its quiet throughput that any producer keeps."""
    ping_ms_max: float = 50.0
    arrival_ms_max: float = 250.0
    """Highest 99th percentiles of a ping: `ping_ms_max` on an open connection, `arrival_ms_max` on a new one."""
    memory_mib_max: float = 400.0
    is_crowd: bool = False
    """Whether a run that failed only by its times is always repeated: its processes use up the machine's processors."""
    seconds_min: float = 0.0
    """
    How long it has to last for a verdict: until it bites, on a slow machine too; and a producer that connects anew each
    time may wait `arrival_ms_max`.
    """


def _nothing(did: Counter[str]) -> bool:
    return not did


def _streams(count: int, least_bytes: int) -> Callable[[Counter[str]], bool]:
    """Return a *bite*: at least *count* streams were sent or stopped by the hub, with at least *least_bytes* in all."""

    def bite(did: Counter[str]) -> bool:
        return did["pushed"] + did["blocked"] + did["cut_off"] >= count and did["bytes"] >= least_bytes

    return bite


ATTACKS: dict[str, Attack] = {
    "nothing": Attack((), _nothing),  # the baseline: the rig without an attack
    "half_frames": Attack((streams.half_frames,), _streams(2, MIB)),
    "unread_echoes": Attack((streams.unread_echoes,), _streams(streams.ECHOES, MIB)),
    "json_trees": Attack((streams.json_trees,), _streams(1, MIB)),
    "compression_bombs": Attack((streams.compression_bombs,), _streams(2, 4000)),
    "acknowledged_spool": Attack((forgeries.acknowledged_spool,), lambda did: did["files"] >= 1),
    "small_spools": Attack((forgeries.small_spools,), lambda did: did["files"] >= 500),
    "hard_links": Attack((forgeries.hard_links,), lambda did: did["links"] + did["refused"] >= 2),
    "stolen_sessions": Attack((forgeries.stolen_sessions,), lambda did: did["files"] + did["refused"] >= 2),
    "idle_crowd": Attack((crowds.idle_crowd,), lambda did: did["held"] >= 1000 or did["cut_off"] >= 100),
    # 20,000 bytes per second, one per system call, take up to half a processor. If earlier bytes were read again, it
    # would be all of it.
    "drips": Attack((crowds.drips,), lambda did: did["drops"] >= 1000 or did["cut_off"] >= 100, cpu_max=0.7),
    "losses": Attack((streams.losses,), _streams(1, 60_000)),
    "stolen_ids": Attack((forgeries.stolen_ids,), lambda did: did["forged"] >= 100, reads_journal=True),
    "many_sessions": Attack((forgeries.many_sessions,), lambda did: did["acks"] >= 1000 or did["cut_off"] >= 1),
    "costly_entries": Attack((streams.costly_entries,), _streams(1, MIB)),
    # New connections wait in the kernel's single backlog after those of the storm, up to 4096.
    "connect_storm": Attack(
        (crowds.connect_storm,), lambda did: did["connections"] >= 500, arrival_ms_max=1000.0, seconds_min=1.2
    ),
    "refused_requests": Attack(
        (streams.refused_requests,), lambda did: did["errors"] >= 20 or did["cut_off"] >= 1, seconds_min=1.2
    ),
    "datagrams": Attack((entrances.datagrams,), lambda did: did["datagrams"] >= 100),
    "pickles": Attack((entrances.pickles,), lambda did: did["pickles"] >= 7),
    "knocks": Attack((entrances.knocks,), lambda did: did["knocks"] >= 100 and did["guesses"] >= 1),
    "readers": Attack(
        (readers.unread_streams, readers.cancels, readers.queries),
        lambda did: (
            did["unread"] >= 1000 and did["cancels"] >= 500 and did["queries"] >= 30 and did["reply_bytes"] >= MIB
        ),
        seconds_min=1.6,
    ),
    "requests": Attack((entrances.requests,), lambda did: did["asked"] >= 100 and did["bytes"] >= MIB),
    "pipe_lines": Attack(
        (entrances.pipe_lines,), lambda did: did["opened"] >= 10 and did["bytes"] >= MIB, seconds_min=1.2
    ),
}
ATTACKS["everything"] = Attack(
    tuple(play for attack in ATTACKS.values() for play in attack.plays),
    lambda did: did["bytes"] >= MIB and did["connections"] >= 500 and did["files"] >= 100,
    reads_journal=True,
    # Each of these users takes all it can: in a round of the loop each may have a step of 20 ms, and a new connection
    # waits for thousands of the storm. Times are the machine's as much as the hub's here, which has to lose nothing, to
    # stay within its memory, and to go on.
    share_min=0.02,
    ping_ms_max=1500.0,
    arrival_ms_max=10_000.0,
    memory_mib_max=550.0,  # less than the sum in SECURITY.md
    seconds_min=10.0,
    is_crowd=True,
)
