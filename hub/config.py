"""
Where things are, and how sizes are written, when nobody says otherwise.

Not here: what the hub can be told (hub.settings), the options of a command (hub.cli).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

SOCKET_VARIABLE = "MPSR_SOCKET"
JOURNAL_VARIABLE = "MPSR_JOURNAL"
CONFIG_VARIABLE = "MPSR_CONFIG"
SYSTEM_CONFIG = "/etc/mpsr/hub.toml"

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d{1,20})(?:\.(\d{1,20}))?\s*([kmgt]?i?)b?\s*", re.IGNORECASE)


def default_socket() -> str:
    """Return the path of the hub's socket: ``$MPSR_SOCKET``, else one under the user's or the system's run folder."""
    if path := os.environ.get(SOCKET_VARIABLE):
        return path
    if os.geteuid() == 0:
        return "/run/mpsr/hub.sock"
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if not os.path.isdir(run):
        run = _state_home()  # cron and su give none; a folder of our own, never one in /tmp that others can make first
    return os.path.join(run, "mpsr", "hub.sock")


def default_journal() -> str:
    """Return the folder of the journal: ``$MPSR_JOURNAL``, else one under the user's or the system's state folder."""
    if path := os.environ.get(JOURNAL_VARIABLE):
        return path
    if os.geteuid() == 0:
        return "/var/lib/mpsr/journal"
    return os.path.join(_state_home(), "mpsr", "journal")


def config_file(named: str | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the hub's configuration file: the one *named*, ``$MPSR_CONFIG``, the user's, the system's; or None."""
    environ = os.environ if environ is None else environ
    if path := named or environ.get(CONFIG_VARIABLE):
        return os.path.abspath(path)
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    own = os.path.join(home, "mpsr", "hub.toml")
    return next((path for path in (own, SYSTEM_CONFIG) if os.path.exists(path)), None)


def _state_home() -> str:
    return os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")


def parse_size(text: str) -> int:
    """Return the bytes that *text* means: ``1048576``, ``64MiB``, ``1GiB``, ``10MB``; raise ValueError otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None or match[3].lower() not in _UNITS:
        raise ValueError(f"not a size: {text!r} (write it like 64MiB, 1GiB or 1048576)")
    unit, fraction = _UNITS[match[3].lower()], (match[2] or "").ljust(20, "0")
    return int(match[1]) * unit + int(fraction) * unit // 10**20
