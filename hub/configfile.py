"""
The part of the hub's configuration file that clients read: the paths of its socket and of its journal.

Always true: a mistake elsewhere in the file does not stop a client, even if the file is not valid TOML because of it. A
file that ``MPSR_CONFIG`` names must be readable; another one that cannot be read counts as missing.

Not here: the whole file, as the hub reads it (hub.service.settings).
Source: TOML 1.0.
"""

from __future__ import annotations

import os
from typing import Any

from hub.errors import ConfigError
from hub.paths import CONFIG_VARIABLE, SOCKET_VARIABLE, AbsolutePath, SocketPath, config_file, default_socket

ADVICE = f"name a file that can be read with --config or ${CONFIG_VARIABLE}, or leave them out"


def configured_path(name: str) -> str | None:
    """Return the path under the key *name* of the configuration file, or None if it has none. Raises ConfigError."""
    path = config_file()
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError as error:
        if os.environ.get(CONFIG_VARIABLE):
            raise unreadable(path, error) from error
        return None
    found = _value(text, name) if name in text else None
    if found is None:
        return None
    try:
        return (SocketPath if name == "socket" else AbsolutePath).parse(found)
    except ValueError as error:
        raise ConfigError(path, f"{name}: {error}") from error


def socket_path() -> str:
    """
    Return the path of the hub's socket for a program that names none: ``$MPSR_SOCKET``, else the path in the
    configuration file, else the default. Raises ConfigError.
    """
    if path := os.environ.get(SOCKET_VARIABLE):
        return path
    return configured_path("socket") or default_socket()


def check_named_file() -> None:
    """Raise ConfigError if ``MPSR_CONFIG`` names a file that cannot be read."""
    path = os.environ.get(CONFIG_VARIABLE)
    if path and not os.access(path, os.R_OK):
        configured_path("")


def unreadable(path: str, error: OSError) -> ConfigError:
    """Return the error for a file that cannot be read."""
    return ConfigError(path, f"{error.strerror} ({ADVICE})")


def _value(text: str, name: str) -> Any:
    """Return the value of the key *name* in the outermost table, None if it is not there."""
    import tomllib

    try:
        return tomllib.loads(text).get(name)
    except tomllib.TOMLDecodeError:
        pass
    for line in text.splitlines():  # the hub does not start with this file, but may be running since before
        if line.lstrip().startswith("["):
            return None
        try:
            found = tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
        if name in found:
            return found[name]
    return None
