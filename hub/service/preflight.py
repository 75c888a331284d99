"""
Checks whether a hub could start with a configuration, without starting one.

Always true: nothing is made, changed or deleted.

Not here: conditions that only the start itself can find, such as another hub at the socket (hub.socketfile).
"""

from __future__ import annotations

import os

from hub.errors import JournalUnusable, SocketError, SocketPathTooLong
from hub.service.config import Config
from hub.socketfile import PATH_BYTES_MAX, check_folder, group_id


def check_start(config: Config) -> None:
    """Raise what the start would raise: UnknownGroup, SocketPathTooLong, SocketError or JournalUnusable."""
    group_id(config.group)
    if (length := len(os.fsencode(config.socket))) > PATH_BYTES_MAX:
        raise SocketPathTooLong(config.socket, length, PATH_BYTES_MAX)
    check_folder(config.socket)
    if fault := _fault_of(os.path.dirname(config.socket)):
        raise SocketError(config.socket, f"{fault} (choose a --socket in a folder of yours)")
    if fault := _fault_of(config.journal):
        raise JournalUnusable(config.journal, f"{fault} (choose a --journal in a folder of yours)")


def _fault_of(folder: str) -> str:
    """Return why *folder* could not be made or written to; empty if it could."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"Permission denied: {folder}"
