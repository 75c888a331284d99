"""hub.config: default places, and sizes as people write them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config import default_journal, default_socket, parse_size

VARIABLES = ("MPSR_SOCKET", "MPSR_JOURNAL", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("uid", "environment", "socket", "journal"),
    [
        (0, {}, "/run/mpsr/hub.sock", "/var/lib/mpsr/journal"),
        (0, {"XDG_RUNTIME_DIR": "{tmp}", "XDG_STATE_HOME": "/s"}, "/run/mpsr/hub.sock", "/var/lib/mpsr/journal"),
        (4242, {"XDG_RUNTIME_DIR": "{tmp}"}, "{tmp}/mpsr/hub.sock", "{tmp}/home/.local/state/mpsr/journal"),
        (4242, {"XDG_RUNTIME_DIR": "{tmp}/gone", "XDG_STATE_HOME": "/s"}, "/s/mpsr/hub.sock", "/s/mpsr/journal"),
        (4242, {}, "{tmp}/home/.local/state/mpsr/hub.sock", "{tmp}/home/.local/state/mpsr/journal"),
        (4242, {"MPSR_SOCKET": "/a/s", "MPSR_JOURNAL": "/a/j"}, "/a/s", "/a/j"),
        (0, {"MPSR_SOCKET": "/a/s", "MPSR_JOURNAL": "/a/j"}, "/a/s", "/a/j"),
        (0, {"MPSR_SOCKET": "", "MPSR_JOURNAL": ""}, "/run/mpsr/hub.sock", "/var/lib/mpsr/journal"),
    ],
)
def test_default_places(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, environment: dict[str, str], socket: str, journal: str
) -> None:
    """The variable comes first, then the system's places for root, then the user's; never what others could make."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert (default_socket(), default_journal()) == (socket.format(tmp=tmp_path), journal.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("64mib", 64 << 20),
        (" 1 GiB ", 1 << 30),
        ("1G", 10**9),
        ("10MB", 10**7),
        ("512b", 512),
        ("1.5KiB", 1536),
        ("0.1k", 100),
        ("2T", 2 * 10**12),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number and a unit of a thousand or of 1,024, in any case, exact to the byte."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "MiB", "-1", "1e3", "5i", "5ib", "1.", ".5", "1 2", "64MiB/s", "0x10", "nan", "9" * 400, "1_000"]
)
def test_what_is_no_size(text: str) -> None:
    """Anything else is a ValueError that shows how a size is written."""
    with pytest.raises(ValueError, match="write it like 64MiB"):
        parse_size(text)


@given(st.integers(0, 10**20 - 1))
def test_plain_bytes_are_exact(size: int) -> None:
    """A plain number of bytes is that number."""
    assert parse_size(str(size)) == size
