"""
The control group of a process as text, and what follows from its path: the systemd unit, and the container.

The kernel reports which group a process is in; the names in the path are those of the programs that made it, by their
conventions. A process moves only within what was delegated to its user.

Not here: reading /proc (hub.peer).
Source: cgroups(7), proc(5), /proc/PID/cgroup; systemd's naming of units and scopes; the paths that Docker, Podman,
containerd, CRI-O, LXC and systemd-nspawn make.
"""

from __future__ import annotations

import functools
import re

CGROUP_BYTES_MAX = 1024
"""A longer path is left out: it would be stored with every message of the process."""
_UNITS = "service|scope|socket|mount|automount|swap|timer|path|target|device"
_find_units = re.compile(rf"(?<=/)[^/]+\.(?:{_UNITS})(?=/|$)").findall
_find_ids = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])").findall
_search_name = re.compile(
    r"/lxc(?:\.payload)?[./]([^/]+)|/machine-([^/]+)\.scope|/systemd-nspawn@([^/]+)\.service"
).search


@functools.lru_cache(maxsize=256)
def parse_cgroup(data: bytes) -> str:
    """
    Return the path in what /proc/PID/cgroup holds: of the one hierarchy (version 2), else of systemd's, else the first
    that is not the root. Empty if there is none, or a longer one than `CGROUP_BYTES_MAX`.
    """
    paths: dict[bytes, bytes] = {}
    for line in data.splitlines():
        _, colon, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if colon and len(path) > 1:
            paths.setdefault(controllers, path)
    path = paths.get(b"") or paths.get(b"name=systemd") or next(iter(paths.values()), b"")
    return path.decode("utf-8", "replace") if len(path) <= CGROUP_BYTES_MAX else ""


@functools.lru_cache(maxsize=256)
def unit_of(cgroup: str) -> str:
    """Return the innermost unit in a path: of a user's service, that one, and not the user's manager."""
    units = _find_units(cgroup)
    return units[-1].removeprefix("_") if units else ""  # systemd puts it before names that begin like the kernel's


@functools.lru_cache(maxsize=256)
def container_of(cgroup: str) -> str:
    """Return the id of the container, 64 hexadecimal digits, or the name that LXC and systemd-nspawn gave it."""
    if ids := _find_ids(cgroup):
        return str(ids[-1])
    name = _search_name(cgroup)
    return next(filter(None, name.groups()), "") if name is not None else ""
