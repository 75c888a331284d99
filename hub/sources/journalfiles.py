"""
What this machine has for reading the systemd journal: journalctl, and files that this process may read.

Not here: running journalctl (hub.sources.journalctl).
Source: systemd-journald.service(8), "Files"; machine-id(5).
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator

from hub.errors import SourceError

PROGRAM = "journalctl"
ADVICE = "(the hub's user must be in the group systemd-journal: mpsr install --system --journald)"
_FOLDERS = ("/var/log/journal", "/run/log/journal")
_MACHINE_ID = "/etc/machine-id"


def check_journal(where: str, directory: str | None) -> str:
    """Return the path of journalctl, if it can read the journal *where*. Raises SourceError."""
    program = find()
    if program is None:
        raise SourceError(where, "there is no journalctl on this machine (install systemd)")
    if directory is not None and not os.path.isdir(directory):
        raise SourceError(where, "there is no such folder")
    if directory is not None and not os.access(directory, os.R_OK | os.X_OK):
        raise SourceError(where, f"{os.strerror(errno.EACCES)} {ADVICE}")
    return program


def find() -> str | None:
    """Return the path of journalctl; None if this machine has none."""
    return shutil.which(PROGRAM)


def machine_id() -> str:
    """Return the id of this machine; empty if it has none."""
    try:
        with open(_MACHINE_ID, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def is_all_readable(directory: str | None) -> bool:
    """Return whether this process may read all files of the journal: those of this machine, or in *directory*."""
    folders = [os.path.join(folder, machine_id()) for folder in _FOLDERS] if directory is None else [directory]
    return all(os.access(path, os.R_OK) for folder in folders for path in _files(folder))


def _files(folder: str) -> Iterator[str]:
    """Yield the folder, as far as it exists, and the files of a journal in it or one folder below."""
    if os.path.lexists(folder):
        yield folder
    for pattern in ("*.journal", "*.journal~", "*/*.journal", "*/*.journal~"):
        yield from glob.iglob(os.path.join(glob.escape(folder), pattern))
