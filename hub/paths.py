"""
Paths in settings, and default locations: socket, journal, configuration file.

Not here: the hub's settings (hub.service.settings), the options of a command (hub.cli).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from hub.errors import ConfigError

SOCKET_VARIABLE = "MPSR_SOCKET"
JOURNAL_VARIABLE = "MPSR_JOURNAL"
CONFIG_VARIABLE = "MPSR_CONFIG"
SYSTEM_CONFIG = "/etc/mpsr/hub.toml"
NO_HOME = "/nonexistent"
"""The home folder of a user without one, as Debian writes it: neither HOME nor an entry in passwd."""


class AbsolutePath(str):
    """A path that means the same in every working directory."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the path in the text *given*; ``~`` is a home folder. Raises ValueError for a relative path."""
        path = os.path.expanduser(given) if isinstance(given, str) else ""
        if not os.path.isabs(path):
            raise ValueError(f"not an absolute path: {given!r} (write it like /srv/mpsr)")
        if "\0" in path:
            raise ValueError(f"not a path, because it has a null character: {given!r}")
        return cls(path)

    @classmethod
    def of_shell(cls, text: str) -> Self:
        """Return the path that *text* means on a command line, where it may be relative."""
        return cls(os.path.abspath(os.path.expanduser(text)))


class SocketPath(AbsolutePath):
    """The path of a socket, or ``@name``, an abstract name, which is no file (a file of that name is ``./@name``)."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the path in the text *given*. Raises ValueError for a relative path, and an empty name."""
        if not isinstance(given, str) or not is_abstract(given):
            return super().parse(given)
        if given == "@" or "\0" in given:
            raise ValueError(f"not an abstract name: {given!r} (write it like @mpsr)")
        return cls(given)

    @classmethod
    def of_shell(cls, text: str) -> Self:
        """Return the path that *text* means on a command line."""
        return cls(text) if is_abstract(text) else super().of_shell(text)


def is_abstract(path: str) -> bool:
    """Return whether *path* is an abstract name, as in ``@mpsr``."""
    return path.startswith("@")


def socket_address(path: str) -> str:
    """Return what the kernel takes for *path*."""
    return f"\0{path[1:]}" if is_abstract(path) else path


def default_socket() -> str:
    """Return the path of the hub's socket: ``$MPSR_SOCKET``, or a path in the user's or the system's run folder."""
    if path := os.environ.get(SOCKET_VARIABLE):
        return path
    if os.geteuid() == 0:
        return "/run/mpsr/hub.sock"
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if not os.path.isdir(run):
        run = _state_home()  # cron and su set none; never /tmp, where another user can create the folder first
    return os.path.join(run, "mpsr", "hub.sock")


def default_journal() -> str:
    """Return the folder of the journal: ``$MPSR_JOURNAL``, or a path in the user's or the system's state folder."""
    if path := os.environ.get(JOURNAL_VARIABLE):
        return path
    if os.geteuid() == 0:
        return "/var/lib/mpsr/journal"
    return os.path.join(_state_home(), "mpsr", "journal")


def config_file(named: str | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the hub's configuration file: *named*, ``$MPSR_CONFIG``, the user's, the system's, or None."""
    environ = os.environ if environ is None else environ
    if path := named or environ.get(CONFIG_VARIABLE):
        return os.path.abspath(path)
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(_home(), ".config")
    own = os.path.join(home, "mpsr", "hub.toml")
    return next((path for path in (own, SYSTEM_CONFIG) if os.path.exists(path)), None)


def default_cache() -> str:
    """Return the folder of what can be made again, in the user's cache folder."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(_home(), ".cache"), "mpsr")


def default_history(command: str) -> str:
    """Return the file with what was typed at the prompt of *command*, in the user's state folder."""
    return os.path.join(_state_home(), "mpsr", f"{command}_history")


def _state_home() -> str:
    return os.environ.get("XDG_STATE_HOME") or os.path.join(_home(), ".local", "state")


def _home() -> str:
    """Return the user's home folder; `NO_HOME` without one, and never a path in the working directory."""
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) else NO_HOME


def check_default(name: str, path: str) -> None:
    """Raise ConfigError if *path*, the default of the key *name*, is in a home folder, and this user has none."""
    if path.startswith(f"{NO_HOME}/"):
        remedy = f"give --{name}, or set MPSR_{name.upper()}"
        raise ConfigError(f"--{name}", f"there is no default, because this user has no home folder ({remedy})")
