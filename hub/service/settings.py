"""
Loads the configuration of the hub. Each value comes from a flag, a variable, the file or the default, in this order.

The file is ``--config FILE`` or ``MPSR_CONFIG``, else the first that exists of ``$XDG_CONFIG_HOME/mpsr/hub.toml`` and
``/etc/mpsr/hub.toml``. No file is needed.

Always true: a configuration is valid as a whole or refused. A wrong key or value is a `ConfigError` that names its
origin, the key, and a correct alternative, raised before anything is started or deleted.

Not here: what clients read in the file (hub.configfile), the keys (hub.service.config, hub.service.keys), the effect of
the values (hub.service.service), default locations (hub.paths).
Source: TOML 1.0.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from hub.configfile import unreadable
from hub.errors import ConfigError
from hub.paths import CONFIG_VARIABLE, AbsolutePath, config_file
from hub.service.config import Config
from hub.service.keys import BY_NAME, PREFIX
from hub.service.misfit import Misfit, unknown_key
from hub.service.tables import Field, TableT, fields_of, read_table, written

Environ = Mapping[str, str]
Flags = Mapping[str, str | Sequence[str] | None]
"""The text of each flag, by key; a sequence for a list. None and an empty sequence: the flag was not given."""


class Value(NamedTuple):
    """The value of a key as it was written, and its origin: flag, variable, file or ``default``."""

    given: Any
    origin: str

    @property
    def text(self) -> str | list[str]:
        """The value as text; a list of texts for a list."""
        if isinstance(self.given, bool):
            return str(self.given).lower()
        return [str(each) for each in self.given] if isinstance(self.given, (list, tuple)) else str(self.given)


class LoadedConfig(NamedTuple):
    """The configuration in force, the value of each key as it was written, and the file."""

    config: Config
    values: Mapping[str, Value]
    file: str | None


def load(flags: Flags | None = None, *, file: str | None = None, environ: Environ | None = None) -> LoadedConfig:
    """Return the configuration in force. *file* must exist. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    path = config_file(file, environ)
    config, values = load_table(Config, flags or {}, environ, path)
    return LoadedConfig(config, values, path)


def misspelt_variables(environ: Environ) -> list[str]:
    """Return a sentence for each variable that the hub does not know, and whose name is nearly that of one it knows."""
    known = [CONFIG_VARIABLE, *(key.variable for key in BY_NAME.values())]
    names = (name for name, value in environ.items() if name.startswith(PREFIX) and value and name not in known)
    near = ((name, difflib.get_close_matches(name, known, 1, 0.85)) for name in sorted(names))
    return [f"{name} is no variable of the hub (did you mean {meant[0]}?)" for name, meant in near if meant]


def load_table(
    table: type[TableT], flags: Flags, environ: Environ, path: str | None
) -> tuple[TableT, dict[str, Value]]:
    """
    Return the outermost *table* of the file at *path*, and its values as they were written. Raises ConfigError.

    A flag overrides a variable, and a variable the file. Only the keys of hub.service.keys have flags and variables.
    """
    fields = fields_of(table)
    in_file = {} if path is None else _read_file(path, fields)
    values = {name: _value(field, flags, environ, in_file, path) for name, field in fields.items()}
    try:
        return read_table({name: _or_none(fields[name], value.given) for name, value in values.items()}, table), values
    except Misfit as error:
        origin = values[error.key].origin if error.key else "configuration"
        raise ConfigError(origin, str(error)) from error


def _read_file(path: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise unreadable(path, error) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not TOML: {error} (see `mpsr config --example`)") from error
    for name, value in found.items():
        if name not in fields:
            raise ConfigError(path, str(unknown_key(name, value, list(fields), "see `mpsr config --example`")))
    return found


def _value(field: Field, flags: Flags, environ: Environ, in_file: Mapping[str, Any], path: str | None) -> Value:
    key = BY_NAME.get(field.name)
    if key is not None and (flag := flags.get(field.name)) not in (None, ()):
        if (kind := _kind_of_path(field)) is not None and flag is not None:
            flag = _of_shell(kind, flag) if isinstance(flag, str) else [_of_shell(kind, each) for each in flag]
        return Value(flag, key.flag)
    if key is not None and (variable := environ.get(key.variable)):
        parts = [part.strip() for part in variable.split(",") if part.strip()]
        return Value(parts if field.is_list else variable, key.variable)
    if path is not None and field.name in in_file:
        return Value(in_file[field.name], path)
    return Value(written(field.make_default()), "default")


def _kind_of_path(field: Field) -> type[AbsolutePath] | None:
    """Return the type of the path, or of the paths, that *field* holds; None if it holds others."""
    kinds = (field.kind, *get_args(field.kind))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, AbsolutePath)), None)


def _of_shell(kind: type[AbsolutePath], text: str) -> str:
    return kind.of_shell(text) if text else text  # an empty one is no path


def _or_none(field: Field, given: Any) -> Any:
    """Return *given*; None for an empty text if the key need not have a value."""
    return None if given == "" and field.is_optional else given
