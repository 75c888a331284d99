"""
The configuration in force, as the method `config` shows it.

Always true: no secret is shown. Secrets are in files, of which the paths are shown; of a table whose values may be
secrets, such as the headers of requests, only the names are.

Not here: the keys (hub.service.config), the origin of each value (hub.service.settings).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hub.service.config import FIELDS, Config
from hub.service.tables import Table, type_of

HIDDEN = "…"
"""Stands for a value that may be a secret."""
_NAMES_OF: Mapping[str, Callable[[Any], Any]] = {
    "headers": lambda headers: [f"{header.partition(':')[0]}: {HIDDEN}" for header in headers]
}
"""What is shown of keys whose values may be secrets."""


def in_force(config: Config) -> dict[str, Any]:
    """Return the value of each key; a duration, a size and the like as they would be written."""
    return {name: _shown(getattr(config, name)) for name in FIELDS}


def _shown(value: Any) -> Any:
    if isinstance(value, Table):
        kind = {"type": type_of(value)} if value.__struct_config__.tag else {}
        fields = {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
        given = {name: each for name, each in fields.items() if each not in (None, ())}
        return kind | {
            name: _shown(_NAMES_OF[name](each) if name in _NAMES_OF else each) for name, each in given.items()
        }
    if isinstance(value, (tuple, list, frozenset)):
        return [_shown(each) for each in value]
    if hasattr(value, "text"):
        return value.text
    if value is None or isinstance(value, bool):
        return value
    plain = next((kind for kind in (int, float) if isinstance(value, kind)), str)
    return plain(value)  # JSON does not know types of our own
