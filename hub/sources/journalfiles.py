"""
The means of this machine for reading the systemd journal: journalctl, and files that this process may read.

Also how a journal is identified and chosen.

Not here: running journalctl (hub.sources.journalctl).
Source: systemd-journald.service(8), "Files"; machine-id(5).
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator

from hub.errors import SourceError

PROGRAM = "journalctl"
ADVICE = "(the hub's user must be in the group systemd-journal: mpsr install --system --journald)"
IDENTITY_BYTES_MAX = 200
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


def identity(directory: str | None) -> bytes:
    """
    Return the identity of a journal: the folder, however its path is written, or this machine. A long path is replaced
    by its checksum.
    """
    if directory is None:
        return machine_id().encode("utf-8", "replace")[:IDENTITY_BYTES_MAX]
    path = os.fsencode(os.path.normpath(directory))
    return path if len(path) <= IDENTITY_BYTES_MAX else hashlib.blake2b(path, digest_size=32).hexdigest().encode()


def chosen(directory: str | None) -> list[str]:
    """
    Return the arguments that choose the journal.

    Without --merge, --follow shows the present boot only (systemd 252): the cursor from the previous boot would not be
    found, and entries from before the restart of the machine would be left out. With it, journals of other machines are
    shown, too.
    """
    if directory is not None:
        return ["--merge", f"--directory={directory}"]
    own = machine_id()
    return ["--merge", *([f"_MACHINE_ID={own}"] if own else [])]


def is_all_readable(directory: str | None) -> bool:
    """Return whether this process may read all files of the journal: those of this machine, or in *directory*."""
    folders = [os.path.join(folder, machine_id()) for folder in _FOLDERS] if directory is None else [directory]
    return all(_may_read(path) for folder in folders for path in _files(folder))


def _may_read(path: str) -> bool:
    """Return whether *path* can be read, or has gone since it was listed: a vacuum deletes files at any time."""
    return os.access(path, os.R_OK) or not os.path.lexists(path)


def _files(folder: str) -> Iterator[str]:
    """Yield the folder, as far as it exists, and the files of a journal in it or one folder below."""
    if os.path.lexists(folder):
        yield folder
    for pattern in ("*.journal", "*.journal~", "*/*.journal", "*/*.journal~"):
        yield from glob.iglob(os.path.join(glob.escape(folder), pattern))
