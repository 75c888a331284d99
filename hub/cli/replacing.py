"""
Replaces a file in one step.

Always true: at any moment, also after a crash, the file is the old one or the new one in whole. A fault leaves the old.

Not here: files of the journal (hub.journal.files).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str, mode: int) -> Iterator[int]:
    """
    Give the descriptor of a new file, which gets *mode* as far as the umask lets it. At the end of the ``with`` it is
    synced and gets its name, *path*, which is no link. Raises OSError.
    """
    fd, new = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        try:
            yield fd
            os.umask(umask := os.umask(0))
            os.fchmod(fd, mode & ~umask)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
