"""
Which boot of the machine this is.

Source: random(4), boot_id.
"""

from __future__ import annotations

import os

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_UNKNOWN = os.urandom(16)


def boot_id() -> bytes:
    """Return what differs after each boot; where the system does not say, after each start of this process."""
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read().strip()
    except OSError:
        return _UNKNOWN
