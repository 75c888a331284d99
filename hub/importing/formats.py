"""
Finds the format of the lines of a log from its beginning.

Most of the first `LINES_MAX` lines must have the form; otherwise the log is text. A line of syslog has a priority, or a
time, a host and a program: many programs write a time and a word with a colon, and that is no syslog.

Not here: the formats themselves (hub.wire.parsers, hub.wire.journalexport).
"""

from __future__ import annotations

import re

from hub.syslogfields import parse as parse_syslog
from hub.wire import jsonlines
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.parsers import PARSERS
from hub.wire.sysloglines import is_syslog

JOURNALD = "journald"
FORMATS = (*PARSERS, JOURNALD)
TEXT = "text"
SAMPLE_BYTES = 64 << 10
LINES_MAX = 20
_match_export = re.compile(rb"__[A-Z_]{1,64}=").match
_match_cri = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}(?:Z|[+-][0-9]{2}:[0-9]{2}) std(?:out|err) [PF]\b"
).match
_match_stamp = re.compile(
    r"[A-Z][a-z]{2} [ 0-9][0-9] |[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}(?:Z|[+-][0-9]{2}:?[0-9]{2}) "
).match
_DOCKER_FIELDS = {"log", "stream", "time"}


def detect(sample: bytes) -> str:
    """Return the name of the format of a file that begins with *sample*: one of `FORMATS`."""
    if _match_export(sample):
        return JOURNALD
    lines = [line for line in sample[:SAMPLE_BYTES].split(b"\n") if line.strip()]
    if len(lines) > 1 and not sample.endswith(b"\n"):
        lines.pop()  # it may be cut off
    kinds = [_kind(line.removesuffix(b"\r")) for line in lines[:LINES_MAX]]
    return next((kind for kind in kinds if 2 * kinds.count(kind) > len(kinds)), TEXT)


def _kind(line: bytes) -> str:
    if line[:1] == b"{" and len(line) <= JSON_BYTES_MAX:
        value = jsonlines.decode_object(line)
        if value is None:
            return TEXT
        return "docker" if value.keys() >= _DOCKER_FIELDS and isinstance(value["log"], str) else "json"
    if _match_cri(line):
        return "cri"
    return "syslog" if _is_syslog(line) else TEXT


def _is_syslog(line: bytes) -> bool:
    if is_syslog(line):
        return True
    text = line.decode("utf-8", "replace")
    if _match_stamp(text) is None:
        return False
    record = parse_syslog(text)[1]
    return record.keys() >= {"timestamp", "host", "app"}
