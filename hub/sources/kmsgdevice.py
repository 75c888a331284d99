"""
The device of the kernel's log, and the id of this start of the machine.

Source: Documentation/ABI/testing/dev-kmsg of the kernel; syslog(2) about dmesg_restrict; random(4), boot_id.
"""

from __future__ import annotations

import os

from hub.errors import SourceError
from hub.sources.kinds import KMSG

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def open_device() -> int:
    """Return a descriptor to read the kernel's log. Raises SourceError or OSError."""
    try:
        return os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SourceError(KMSG, "there is no such device (a container has none, unless it is given one)") from None
    except PermissionError as error:
        advice = "it needs root or CAP_SYSLOG, unless kernel.dmesg_restrict is 0: mpsr install --system --kmsg"
        raise SourceError(KMSG, f"{error.strerror} ({advice})") from error


def boot_id() -> bytes:
    """Return the id of this start of the machine. Raises OSError."""
    with open(_BOOT_ID, "rb") as file:
        return file.read(64).strip()
