"""
The format with which lnav reads the lines of `mpsr logs -o json` and `mpsr export`.

Source: https://docs.lnav.org/en/latest/formats.html (tested with lnav 0.11).
"""

from __future__ import annotations

import json

_LEVELS = {
    "trace": ["trace"],
    "debug": ["debug", "dbg", "7"],
    "info": ["info", "information", "informational", "6"],
    "notice": ["notice", "success", "5"],
    "warning": ["warning", "warn", "4"],
    "error": ["error", "err", "exception", "3"],
    "critical": ["critical", "crit", "alert", "2", "1"],
    "fatal": ["fatal", "panic", "emergency", "emerg", "0"],
}
_FORMAT = {
    "$schema": "https://lnav.org/schemas/format-v1.schema.json",
    "mpsr_log": {
        "title": "mpsr",
        "description": "Messages of an mpsr hub: mpsr export, mpsr logs -o json",
        "json": True,
        "hide-extra": False,
        "timestamp-field": "time",
        "level-field": "record/level",
        "body-field": "record/message",
        "level": {level: f"(?i)^(?:{'|'.join(names)})$" for level, names in _LEVELS.items()},
        "value": {
            "sequence": {"kind": "integer", "hidden": True},
            "time": {"kind": "string", "hidden": True},
            "received": {"kind": "string", "hidden": True},
            "tag": {"kind": "string", "identifier": True},
            "pid": {"kind": "integer", "foreign-key": True},
            "uid": {"kind": "integer", "foreign-key": True, "hidden": True},
            "gid": {"kind": "integer", "foreign-key": True, "hidden": True},
            "comm": {"kind": "string", "identifier": True},
            "record": {"kind": "json", "hidden": True},
            "record/level": {"kind": "string"},
            "record/message": {"kind": "string"},
        },
        "line-format": [
            {"field": "__timestamp__", "timestamp-format": "%Y-%m-%d %H:%M:%S.%L"},
            " ",
            {"field": "tag"},
            " ",
            {"field": "comm"},
            "[",
            {"field": "pid"},
            "] ",
            {"field": "record/level", "default-value": ""},
            " ",
            {"field": "record/message", "default-value": ""},
        ],
    },
}


def text() -> str:
    """Return the file."""
    return json.dumps(_FORMAT, indent=2)
