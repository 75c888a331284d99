"""
Which entries of the journal are taken: of which units, and not those of the hub's own service.

A unit is that of the process that wrote the entry, also one of a user's manager; of an entry that systemd itself wrote
about a unit, that unit.

The hub's own log is found by its control group, which journald reads from the kernel. A hub in a session, a container
or a scope does not write to the journal by itself, and shares its group with other programs: nothing is left out then.

Source: systemd.journal-fields(7).
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence

from hub.cgroup import unit_of
from hub.peer import identified
from hub.wire.journalexport import Entry

_SYSTEMD = b"1"
_KEPT_UNITS_MAX = 1024


class JournalChoice:
    """Takes the entries of the units that a glob of *units* matches (none: all), except *exclude_units*."""

    def __init__(self, *, units: Sequence[str], exclude_units: Sequence[str], own_cgroup: str) -> None:
        self._units = units
        self._exclude = exclude_units
        self._own = own_cgroup.encode("utf-8", "surrogateescape")
        self._own_unit = unit_of(own_cgroup).encode()
        self._known: dict[bytes, bool] = {}  # whether the entries of a unit are wanted

    def wants(self, entry: Entry) -> bool:
        """Return whether *entry* is to be stored."""
        if self._own and self._is_own(entry):
            return False
        if not self._units and not self._exclude:
            return True
        unit = _unit_of(entry)
        wanted = self._known.get(unit)
        if wanted is None:
            wanted = self._wants_unit(unit.decode("utf-8", "replace"))
            if len(self._known) < _KEPT_UNITS_MAX:
                self._known[unit] = wanted
        return wanted

    def _is_own(self, entry: Entry) -> bool:
        group = entry.value(b"_SYSTEMD_CGROUP")
        if group:
            return group == self._own or group.startswith(self._own + b"/")
        # Of a process that has ended, only the unit is known.
        return self._own_unit in (entry.value(b"_SYSTEMD_UNIT"), entry.value(b"_SYSTEMD_USER_UNIT"))

    def _wants_unit(self, unit: str) -> bool:
        if any(fnmatch.fnmatchcase(unit, glob) for glob in self._exclude):
            return False
        return not self._units or any(fnmatch.fnmatchcase(unit, glob) for glob in self._units)


def _unit_of(entry: Entry) -> bytes:
    if entry.value(b"_PID") == _SYSTEMD and (about := entry.value(b"UNIT")):
        return about
    return entry.value(b"_SYSTEMD_USER_UNIT") or entry.value(b"_SYSTEMD_UNIT")


def own_cgroup() -> str:
    """Return the control group of this process if it is a service's; empty otherwise."""
    group = identified(os.getpid(), os.geteuid(), os.getegid()).cgroup
    return group if unit_of(group).endswith(".service") else ""
