"""hub.sinks.jetstreamlink: what a stream takes. The connection is tested with the sinks, on a real server."""

import pytest

from hub.sinks.jetstreamlink import covers, headers_in


@pytest.mark.parametrize(
    ("pattern", "subject", "does"),
    [
        ("mpsr.*", "mpsr.*", True),
        ("mpsr.>", "mpsr.*", True),
        (">", "mpsr.*", True),
        ("*.*", "mpsr.*", True),
        ("mpsr.>", "mpsr.>", True),
        ("mpsr.*", "mpsr.>", False),
        ("mpsr.a", "mpsr.*", False),
        ("mpsr", "mpsr.*", False),
        ("mpsr.*.*", "mpsr.*", False),
        ("mpsr.*.>", "mpsr.*", False),
        ("other.*", "mpsr.*", False),
        ("", "mpsr.*", False),
    ],
)
def test_subjects_of_a_stream(pattern: str, subject: str, does: bool) -> None:
    """All subjects that a sink uses have to be among those of the stream."""
    assert covers(pattern, subject) is does


def test_headers() -> None:
    """As a server stores them."""
    assert headers_in(b"NATS/1.0\r\nA: b\r\nC:d: e\r\n\r\n") == {"A": "b", "C": "d: e"}
    assert headers_in(b"") == {}
    assert headers_in(b"NATS/1.0\r\n\xff") == {}
