"""
The configuration of the hub: a table of keys. Each value comes from a flag, a variable, the file or the default.

A flag overrides a variable, a variable the file, the file the default. The key ``journal_size`` is the flag
``--journal-size``, the variable ``MPSR_JOURNAL_SIZE`` and the line ``journal_size = "2GiB"``. The file is
``--config FILE`` or ``MPSR_CONFIG``, else the first that exists of ``$XDG_CONFIG_HOME/mpsr/hub.toml`` and
``/etc/mpsr/hub.toml``. No file is needed.

Always true: a configuration is valid as a whole or refused. A wrong key or value is a `ConfigError` that names it and a
correct alternative, raised before anything is started or deleted.

Not here: the effect of the values (hub.service.service), default locations (hub.paths).
Source: TOML 1.0.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hub.access import RIGHTS, Right, parse_rule
from hub.errors import ConfigError
from hub.journal.retention import RETAIN_BYTES_MIN
from hub.paths import config_file, default_journal, default_socket
from hub.quantities import parse_length, parse_size
from hub.service.config import Config

LOG_LEVELS = ("debug", "info", "warning", "error")
PREFIX = "MPSR_"


class Key(NamedTuple):
    """One key: its parser, its default as text, its help, and whether a reload can change it."""

    name: str
    parse: Callable[[str], Any]
    default: Callable[[], str]
    help: str
    is_live: bool = False
    is_list: bool = False
    metavar: str = "TEXT"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


class Value(NamedTuple):
    """The value of a key, its text as written, and its origin: flag, variable, file or ``default``."""

    value: Any
    text: str | Sequence[str]
    origin: str


class LoadedConfig(NamedTuple):
    """The configuration in force, and the origin of each value."""

    config: Config
    values: Mapping[str, Value]
    file: str | None


def _parse_path(text: str) -> str:
    path = os.path.expanduser(text)
    if not os.path.isabs(path):
        raise ValueError(f"not an absolute path: {text!r}")
    return path


def _parse_flag_path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _parse_mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ValueError(f"not a file mode: {text!r} (write it like 0660)")
    return mode


def _size_of(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = parse_size(text)
        if size < least:
            unit, shift = ("MiB", 20) if least >= 1 << 20 else ("KiB", 10)
            raise ValueError(f"{text!r} is too small, at least {least >> shift}{unit}")
        return size

    return parse


def _parse_count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise ValueError(f"not a number from 1 to 1000000: {text!r}")
    return int(text)


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"not one of {', '.join(names)}: {text!r}")
        return text

    return parse


def _parse_group(text: str) -> str | None:
    return text or None


def _optional_length(text: str) -> float | None:
    return parse_length(text) if text else None


def _rule_key(right: Right, side: str) -> Key:
    said = {
        "send": "send messages (else everybody)",
        "read": "ask for counters (else the hub's own user and root)",
        "control": "reload (else the hub's own user and root)",
    }[right]
    text = f"Who may {said}: uid:1000, user:NAME, gid:33, group:NAME, comm:NAME, all."
    if side == "deny":
        text = f"Who may not {right}, whoever else may."
    return Key(f"{right}_{side}", parse_rule, str, text, is_live=True, is_list=True, metavar="RULE")


KEYS: tuple[Key, ...] = (
    Key("socket", _parse_path, default_socket, "The hub's socket.", metavar="PATH"),
    Key("mode", _parse_mode, lambda: "0660", "Permissions of the socket.", is_live=True, metavar="MODE"),
    Key("group", _parse_group, str, "Group of the socket, by name or number.", is_live=True, metavar="NAME"),
    Key("journal", _parse_path, default_journal, "The journal's folder.", metavar="DIR"),
    Key("journal_size", _size_of(RETAIN_BYTES_MIN), lambda: "1GiB", "How much of the past is kept.",
        is_live=True, metavar="SIZE"),
    Key("retain", _optional_length, str, "Keep nothing longer than this: 90s, 12h, 7d.", is_live=True,
        metavar="DURATION"),
    Key("durability", _one_of("fsync", "relaxed"), lambda: "fsync",
        "fsync: an acknowledgement means on disk. relaxed: a power cut may cost the last second.",
        metavar="fsync|relaxed"),
    Key("connections_max", _parse_count, lambda: "10000", "Maximum simultaneous connections.", is_live=True,
        metavar="N"),
    Key("inbox_size", _size_of(1 << 20), lambda: "64MiB", "Memory for what has arrived and is not on disk yet.",
        metavar="SIZE"),
    Key("frame_size", _size_of(1 << 10), lambda: "64MiB",
        "A larger frame of a client is a loss. Never more than an eighth of journal_size.", metavar="SIZE"),
    Key("stop_timeout", parse_length, lambda: "10s", "So long a stop waits for producers and the disk.", is_live=True,
        metavar="DURATION"),
    Key("log_level", _one_of(*LOG_LEVELS), lambda: "info", "What the hub says of itself on standard error.",
        is_live=True, metavar="|".join(LOG_LEVELS)),
    *(_rule_key(right, side) for right in RIGHTS for side in ("allow", "deny")),
)  # fmt: skip
BY_NAME = {key.name: key for key in KEYS}


def load(
    flags: Mapping[str, str | Sequence[str] | None] | None = None,
    *,
    file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """
    Return the configuration in force.

    *flags* holds the text of each flag, by key. *file* must exist. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    path = config_file(file, environ)
    written = _read_file(path) if path is not None else {}
    values = {}
    for key in KEYS:
        given = (flags or {}).get(key.name)
        if given is not None and given != ():
            values[key.name] = _value(key, given, key.flag)
        elif variable := environ.get(key.variable, ""):
            text = [part.strip() for part in variable.split(",") if part.strip()] if key.is_list else variable
            values[key.name] = _value(key, text, key.variable)
        elif path is not None and key.name in written:
            values[key.name] = _value(key, written[key.name], path)
        else:
            values[key.name] = _value(key, () if key.is_list else key.default(), "default")
    return LoadedConfig(Config(**{name: value.value for name, value in values.items()}), values, path)


def changes(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Return the keys that differ: those that can change at run time, and those that need a restart."""
    differ = [key for key in KEYS if getattr(old, key.name) != getattr(new, key.name)]
    return [key.name for key in differ if key.is_live], [key.name for key in differ if not key.is_live]


def configured(name: str) -> str | None:
    """Return a key's value from the file; None if it is not set or the file is not readable. Raises ConfigError."""
    path = config_file()
    if path is None or not os.access(path, os.R_OK):
        return None
    written = _read_file(path)
    key = BY_NAME[name]
    return _value(key, written[name], path).value if name in written else None


def example() -> str:
    """Return a complete file: each key with a comment, and commented out."""
    lines = ["# What `mpsr hub` is told: /etc/mpsr/hub.toml, or ~/.config/mpsr/hub.toml. No key is needed.", ""]
    for key in KEYS:
        reload = "a reload changes it" if key.is_live else "needs a restart"
        sample = '["group:adm", "uid:1000"]' if key.is_list else f'"{_SAMPLES.get(key.name) or key.default()}"'
        lines += [f"# {key.help}", f"# ({key.flag}, {key.variable}; {reload})", f"#{key.name} = {sample}", ""]
    return "\n".join(lines[:-1]) + "\n"


_SAMPLES = {"socket": "/run/mpsr/hub.sock", "journal": "/var/lib/mpsr/journal", "group": "adm", "retain": "30d"}


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            written = tomllib.load(file)
    except OSError as error:
        raise ConfigError(path, f"{error.strerror} (leave --config out, or name a file that can be read)") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not TOML: {error} (see `mpsr config --example`)") from error
    for name, value in written.items():
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, 1, 0.5)
            advice = f"did you mean {near[0]}?" if near else "see `mpsr config --example`"
            raise ConfigError(path, f"there is no key {name} (it is {_as_toml(value)}; {advice})")
    return written


def _value(key: Key, given: object, origin: str) -> Value:
    """Parse a value, given as text or with its type in a TOML file. Raises ConfigError."""
    try:
        if key.is_list:
            if not isinstance(given, (list, tuple)) or not all(isinstance(text, str) for text in given):
                raise ValueError('not a list of texts (write it like ["uid:1000", "group:adm"])')
            texts: list[str] = list(given)
            return Value(tuple(map(key.parse, texts)), texts, origin)
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            raise ValueError(f"a {type(given).__name__}, not a text (write it in quotation marks)")
        if key.name in ("mode", "group") and not isinstance(given, str):
            raise ValueError('a number, not a text (write it in quotation marks, like "0660")')
        is_written_here = origin.startswith("--")
        parse = _parse_flag_path if key.parse is _parse_path and is_written_here else key.parse
        return Value(parse(str(given)), str(given), origin)
    except ValueError as error:
        raise ConfigError(origin, f"{key.name} = {_as_toml(given)}: {error}") from error


def _as_toml(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, dict):
        return "a table"
    return str(value).lower() if isinstance(value, bool) else str(value)
