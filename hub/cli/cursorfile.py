"""
The file of `mpsr logs --cursor-file`: the last message that was shown, so that the next call goes on after it.

It holds one line: the id of the hub in hexadecimal digits, ``-`` if it is not known (`--socket`), and the sequence. In
a journal of another hub the sequence means nothing: then reading begins at the beginning, and a line reports that.

Always true: the file is replaced in one step, and only after the lines have been written; a crash leaves the old one or
the new one. So a line may be shown again after a crash, and none is left out.

Not here: what is shown (hub.cli.logs).
"""

from __future__ import annotations

import os
import re
import time

from hub.cli.options import usage_error
from hub.cli.output import complain
from hub.cli.replacing import replacing
from hub.writeall import write_all

SAVE_S = 1.0
"""A follower replaces the file at most once in this time."""
_LINE = re.compile(r"([0-9a-f]{32}|-) ([0-9]{1,19})\n?")
_UNKNOWN = "-"
_MODE = 0o600


class CursorFile:
    """The cursor in the file *path*. *hub_id* is the id of the journal's hub in hexadecimal digits, or empty."""

    def __init__(self, path: str, hub_id: str = "") -> None:
        self._path = os.path.realpath(path)  # a link stays a link
        self._hub_id = hub_id or _UNKNOWN
        self._saved = self.after = self._read()
        self._save_at = 0.0
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):  # found before anything is shown
            raise usage_error(f"--cursor-file {path}: the folder does not exist, or cannot be written")

    def _read(self) -> int:
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                text = file.read(1000)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise usage_error(f"--cursor-file {self._path}: {error.strerror}") from None
        match = _LINE.fullmatch(text)
        if match is None:
            raise usage_error(f"--cursor-file {self._path}: this file was not written by `mpsr logs --cursor-file`")
        if _UNKNOWN not in (match[1], self._hub_id) and match[1] != self._hub_id:
            complain(f"--cursor-file {self._path}: it belongs to another journal; this one is read from its beginning")
            return 0
        return int(match[2])

    def save(self, sequence: int, *, is_last: bool = True) -> None:
        """Store *sequence* as that of the last message shown; unless it is the last call, not more often than that."""
        if sequence <= self._saved or (not is_last and time.monotonic() < self._save_at):
            return
        with replacing(self._path, _MODE) as fd:
            write_all(fd, f"{self._hub_id} {sequence}\n".encode())
        self._saved, self._save_at = sequence, time.monotonic() + SAVE_S
