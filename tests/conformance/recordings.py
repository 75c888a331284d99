"""
What clients have sent that cannot be installed everywhere, and what it is in the journal.

A file below recorded/ begins with its origin: client, version, how it was recorded, or from what it was written down.
Then come bytes as Python writes them, one piece a line; a paragraph is a datagram.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "recorded"
_PIECE = re.compile(r"(b'.*'|b\".*\")(?: \* (\d+))?")


class Recording(NamedTuple):
    """
    What the bytes are: *key* of the record has each of the *texts*, in order, and the record has the *fields*.

    *time_ns* is the time of the first message. *acknowledged* is the number of acknowledgements that the client wanted.
    """

    texts: Sequence[str]
    tag: str
    fields: Mapping[str, Any]
    key: str = "message"
    time_ns: int | None = None
    acknowledged: int = 0
    are_datagrams: bool = False


def read(name: str) -> list[bytes]:
    """Return the datagrams of a recording; of a stream there is one, with all its bytes."""
    parts = [b""]
    origin, _, text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").partition("\n\n")
    assert all(line.startswith("# ") for line in origin.splitlines()), "the origin of the bytes"
    for line in text.splitlines():
        if not line:
            parts.append(b"")
        elif match := _PIECE.fullmatch(line):
            parts[-1] += ast.literal_eval(match[1]) * int(match[2] or 1)
        else:
            raise ValueError(f"{name}: {line}")
    return parts


A, B, C = (letter * 16_384 for letter in "abc")
ODD = "invalid \N{REPLACEMENT CHARACTER} utf-8, \ttab, CR\r"
CONTAINER = {"container_name": "/shop"}
DOCKER = Recording(["first line", "to stderr", ODD, A + B + "end", C, "no newline"], "docker.shop", CONTAINER, "log")
DOCKER_SYSLOG = Recording(
    ["to stderr", "first line", ODD.rstrip("\r"), A, B, "end", C, "no newline"],
    "syslog",
    {"facility": "daemon", "app": "shop", "procid": "4516"},
)
GO = Recording(["first line", "grüße\nsecond line"], "shop.web", {}, time_ns=1_700_000_000_000_000_000)
PRECISE_NS = 1_700_000_000_250_000_000
BIT = GO._replace(key="log", time_ns=PRECISE_NS)
NG = Recording(
    ["first line", "grüße", "[1] in brackets: <13>x"],
    "syslog",
    {"level": "warning", "facility": "local3", "host": "vm", "app": "shop"},
)

RECORDINGS: Mapping[str, Recording] = {
    "docker-fluentd": DOCKER,
    "docker-fluentd-acknowledged": DOCKER._replace(
        texts=["to stderr", "first line", ODD, A, B, "end", C, "", "no newline"],
        fields={**CONTAINER, "app": "shop"},
        acknowledged=9,
    ),
    "docker-syslog": DOCKER_SYSLOG,
    "docker-syslog-5424": DOCKER_SYSLOG._replace(fields={**DOCKER_SYSLOG.fields, "host": "vm", "msgid": "shop"}),
    "docker-syslog-datagrams": DOCKER_SYSLOG._replace(
        texts=["first line", ODD, A, "to stderr", B, "end", C, "no newline"],
        fields={**DOCKER_SYSLOG.fields, "host": "vm"},
        are_datagrams=True,
    ),
    "fluent-bit": BIT,
    "fluent-bit-acknowledged": BIT._replace(acknowledged=1),
    "fluent-bit-5": BIT._replace(acknowledged=1),
    "fluent-bit-gzip": BIT,
    "go-acknowledged": GO._replace(acknowledged=2),
    "go-precise": GO._replace(time_ns=PRECISE_NS),
    "go-json": Recording([read("go-json")[0].decode()], "text", {}),
    "syslog-ng": NG,
    "syslog-ng-5424": NG,
    "syslog-ng-datagrams": NG._replace(are_datagrams=True),
}
