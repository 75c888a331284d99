"""hub.paths: paths in settings, and default locations."""

import os
from pathlib import Path

import pytest

from hub.paths import AbsolutePath, SocketPath, default_journal, default_socket, is_abstract, socket_address

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
    """
    The variable comes first, then the system's paths for root, then the user's; never a path that other users can
    create.
    """
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert (default_socket(), default_journal()) == (socket.format(tmp=tmp_path), journal.format(tmp=tmp_path))


def test_a_path_in_a_setting_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may begin with a home folder; on a command line it may be relative."""
    monkeypatch.chdir(tmp_path)
    assert AbsolutePath.parse("/a/b") == "/a/b"
    assert AbsolutePath.parse("~/a") == str(tmp_path / "home/a")
    assert AbsolutePath.of_shell("a/../b") == str(tmp_path / "b")
    for wrong in ("a", "", 5, None):
        with pytest.raises(ValueError, match=r"not an absolute path: .* \(write it like /srv/mpsr\)"):
            AbsolutePath.parse(wrong)
    with pytest.raises(ValueError, match="not a path, because it has a null character"):
        AbsolutePath.parse("/a\0b")


def test_an_abstract_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket may have a name instead of a path; a file of such a name is written with its folder."""
    monkeypatch.chdir(tmp_path)
    assert SocketPath.parse("@mpsr") == SocketPath.of_shell("@mpsr") == "@mpsr"
    assert (is_abstract("@mpsr"), socket_address("@mpsr")) == (True, "\0mpsr")
    assert (is_abstract("/@mpsr"), socket_address("/@mpsr")) == (False, "/@mpsr")
    assert SocketPath.parse("/a") == "/a"
    assert SocketPath.of_shell("./@mpsr") == str(tmp_path / "@mpsr")
    for wrong in ("@", "@a\0b"):
        with pytest.raises(ValueError, match=r"not an abstract name: .* \(write it like @mpsr\)"):
            SocketPath.parse(wrong)
    others: tuple[object, ...] = ("a", 5)
    for each in others:
        with pytest.raises(ValueError, match="not an absolute path"):
            SocketPath.parse(each)
