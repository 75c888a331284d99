"""hub.importing.formats: what the lines of a log are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.importing.formats import FORMATS, LINES_MAX, detect
from tests.hub.wire.feeding import PROPERTY

SAMPLES = {
    "text": [
        b"",
        b"\n",
        b"plain",
        b"[1]",
        b"{broken",
        b"2026-11-27 10:00:00,123 INFO app: started\n",
        b"2026-11-27T10:00:00Z INFO started\n",
        b'127.0.0.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5\n',
        b"Nov 27 is a day\n",
        b"<html>\n",
        b"\xff\xfe\x00",
        b'{"a": 1}\nText\nText\n',
    ],
    "json": [
        b'{"a": 1}',
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b'started\n{"a": 1}\n{"a": 2}\n{"a": 3',
        b'{"log": 1, "stream": "", "time": 1}',
    ],
    "syslog": [
        b"<13>Nov 27 10:00:00 box app[1]: text\n",
        b"Nov  7 10:00:00 box sshd[12]: text\n",
        b"Nov 27 10:00:00 box kernel: text\n",
        b"2026-11-27T10:00:00.123456+01:00 box systemd[1]: text\n",
        b"<34>1 2026-11-27T10:00:00Z box su - ID47 - text",
    ],
    "cri": [b"2026-11-27T10:00:00.123456789Z stdout F text\n", b"2026-11-27T10:00:00+01:00 stderr P \n"],
    "docker": [b'{"log":"a\\n","stream":"stdout","time":"2026-11-27T10:00:00Z"}\n'],
    "journald": [b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1\nMESSAGE=a\n\n"],
}


@pytest.mark.parametrize(("kind", "sample"), [(kind, sample) for kind in SAMPLES for sample in SAMPLES[kind]])
def test_what_a_file_is(kind: str, sample: bytes) -> None:
    """The form that most of its first lines have."""
    assert detect(sample) == kind


def test_every_format_is_found() -> None:
    """Each one has a sample."""
    assert SAMPLES.keys() == set(FORMATS)


def test_only_the_beginning_counts() -> None:
    """What follows the first lines may be anything."""
    assert detect(b'{"a": 1}\n' * LINES_MAX + b"text\n" * 100) == "json"


@PROPERTY
@given(st.binary(max_size=200))
def test_any_bytes_have_a_format(sample: bytes) -> None:
    """Nothing raises."""
    assert detect(sample) in FORMATS
