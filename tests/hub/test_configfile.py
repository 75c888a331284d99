"""hub.configfile: what clients read in the hub's configuration file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub import Hub
from hub.configfile import check_named_file, configured_path, socket_path
from hub.errors import ConfigError
from hub.paths import default_socket
from producers import AsyncProducer, HubHandler, HubLoggerFactory, NotConnected, Producer, call
from tests.support import mpsr

SOCKET = 'socket = "/srv/hub.sock"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file that MPSR_CONFIG names."""
    path = tmp_path / "hub.toml"
    monkeypatch.setenv("MPSR_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("text", "socket"),
    [
        (SOCKET, "/srv/hub.sock"),
        ("'socket' = '/srv/hub.sock'", "/srv/hub.sock"),
        ("", None),
        ("# socket is the default", None),
        ("[socket]\n", None),
        (SOCKET + "journal_szie = 1\njournal_age = 'soon'\n", "/srv/hub.sock"),
        ("group = 'adm\n" + SOCKET + "mode =\n", "/srv/hub.sock"),
        ("group = 'adm\n[[sources]]\n" + SOCKET, None),
        ("\u00fc = \n" + SOCKET, "/srv/hub.sock"),
    ],
)
def test_a_mistake_elsewhere_stops_no_client(text: str, socket: str | None, file: Path) -> None:
    """The key is found if its own line is right, whatever the rest of the file is."""
    file.write_text(text)
    if text.startswith("[socket]"):
        with pytest.raises(ConfigError, match="not an absolute path"):
            configured_path("socket")
    else:
        assert configured_path("socket") == socket
    assert configured_path("journal") is None


def test_bytes_that_are_no_text(file: Path) -> None:
    """A file that is not UTF-8 is read as far as it goes."""
    file.write_bytes(b"# \xff\n" + SOCKET.encode())
    assert configured_path("socket") == "/srv/hub.sock"


def test_a_mistake_in_the_key_itself(file: Path) -> None:
    """A relative path is an error that names the file and the key."""
    file.write_text('socket = "hub.sock"')
    with pytest.raises(ConfigError, match=r"hub\.toml: socket: not an absolute path: 'hub\.sock'"):
        configured_path("socket")


def test_a_file_that_cannot_be_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that MPSR_CONFIG names is an error; another counts as missing."""
    checks: list[Callable[[], object]] = [check_named_file, lambda: configured_path("socket")]
    for check in checks:
        with pytest.raises(ConfigError, match=r"hub\.toml: No such file or directory \(name a file"):
            check()
    monkeypatch.delenv("MPSR_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mpsr/hub.toml").mkdir(parents=True)
    check_named_file()
    assert configured_path("socket") is None


def test_a_missing_named_file_is_the_same_error_for_every_command(file: Path, tmp_path: Path) -> None:
    """Commands of the hub and of clients, with and without options that make the file unnecessary: one line."""
    socket, journal = ("--socket", str(tmp_path / "s")), ("--journal", str(tmp_path / "j"))
    commands = [
        ("hub", "--check"), ("config",), ("send", "x"), ("send", *socket, "x"), ("logs",), ("logs", *journal),
        ("verify",), ("stats",), ("stats", *socket), ("call", "ping"), ("spawn", "--", "true"),
    ]  # fmt: skip
    results = [mpsr(*command) for command in commands]
    said = {(done.returncode, done.stdout, done.stderr) for done in results}
    ((code, output, error),) = said
    assert (code, output, error.count(b"\n")) == (2, b"", 1)
    assert error.startswith(f"mpsr: {file}: No such file or directory (name a file".encode())
    assert mpsr("config", "--example").returncode == 0


def path_of_call() -> str:
    with pytest.raises(NotConnected) as refused:
        call("ping")
    return refused.value.path


USERS: dict[str, Callable[[], str]] = {
    "socket_path": socket_path,
    "Producer": lambda: Producer().path,
    "AsyncProducer": lambda: AsyncProducer().path,
    "HubHandler": lambda: HubHandler().producer.path,
    "HubLoggerFactory": lambda: HubLoggerFactory().producer.path,
    "call": path_of_call,
    "Hub": lambda: Hub().path,
}


@pytest.mark.parametrize("user", USERS)
def test_one_rule_for_the_libraries(user: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable takes precedence over the file, the file over the default; a wrong path in the file is an error."""
    path_of = USERS[user]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("MPSR_SOCKET", f"{tmp_path}/variable")
    file.write_text(f'socket = "{tmp_path}/file"')
    assert path_of() == f"{tmp_path}/variable"
    monkeypatch.delenv("MPSR_SOCKET")
    assert path_of() == f"{tmp_path}/file"
    file.write_text('socket = "relative"')
    with pytest.raises(ConfigError):
        path_of()
    file.write_text("")
    assert path_of() == default_socket()
