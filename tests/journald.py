"""
A real systemd-journald for tests, in a mount namespace of its own: its journal is in a folder of the test.

It is an instance for a journal namespace (systemd-journald.service(8)): it reads neither /dev/log nor the kernel's log.
It would end when it is idle, so a stream stays open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import PATIENCE_S, eventually

PROGRAM = "/usr/lib/systemd/systemd-journald"
NAME = "mpsrtest"
MACHINE_ID = "/etc/machine-id"
_SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/log/journal /run/systemd/journal.$2
mount --bind "$1/log" /run/log/journal
mount --bind "$1/run" /run/systemd/journal.$2
mount -t tmpfs tmpfs /etc/systemd
cp "$1/journald.conf" /etc/systemd/journald@$2.conf
[ -z "$4" ] || { echo "$4" > /run/boot; mount --bind /run/boot /proc/sys/kernel/random/boot_id; }
exec "$3" "$2"
"""
_UNSHARE = ("unshare", "--mount", "--propagation", "private")
_CONF = """\
[Journal]
Storage=volatile
SyncIntervalSec=0
RateLimitBurst=0
RuntimeMaxFileSize=4M
"""


def why_not() -> str:
    """Return why no journald can be started here; nothing if one can."""
    if os.geteuid() != 0:
        return "needs root: only root can start journald in a namespace of its own"
    missing = [name for name in ("journalctl", "unshare", PROGRAM) if shutil.which(name) is None]
    if missing or not Path(MACHINE_ID).is_file():
        return f"there is no {' and no '.join(missing or [MACHINE_ID])} (install systemd)"
    return ""


def needs_journald() -> None:
    """Skip the test that calls this where no journald can be started."""
    if reason := why_not():
        pytest.skip(reason)


class Daemon:
    """A running journald; its files are in `directory`. *boot* is another start of the machine, as a UUID."""

    def __init__(self, folder: Path, boot: str = "") -> None:
        self._folder = folder
        for name in ("log", "run"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "journald.conf").write_text(_CONF)
        self._process = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _SCRIPT, "sh", str(folder), NAME, PROGRAM, boot],
            stderr=subprocess.DEVNULL,
        )
        self._stream = socket.socket(socket.AF_UNIX)
        self._native = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._native.settimeout(PATIENCE_S)
        try:
            eventually(self._connects, "journald listens")
            self._stream.sendall(b"test\n\n6\n0\n0\n0\n0\n")
            eventually(lambda: list((folder / "log").glob(f"*.{NAME}/system.journal")), "journald has a file")
        except BaseException:
            self.close()
            raise
        machine = Path(MACHINE_ID).read_text().strip()
        self.directory = folder / "log" / f"{machine}.{NAME}"

    def _connects(self) -> bool:
        assert self._process.poll() is None, f"journald has ended: {self._process.returncode}"
        try:
            self._native.connect(str(self._folder / "run" / "socket"))
            self._stream.connect(str(self._folder / "run" / "stdout"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def write(self, *texts: str, **fields: str) -> None:
        """Write entries, by the native protocol."""
        more = "".join(f"{name}={value}\n" for name, value in fields.items())
        for text in texts:
            self._native.send(f"MESSAGE={text}\nPRIORITY=6\nSYSLOG_IDENTIFIER=test\n{more}".encode())

    def rotate(self) -> None:
        """Have journald begin a new file, and return when it has."""
        before = len(self.files)
        self._process.send_signal(signal.SIGUSR2)
        eventually(lambda: len(self.files) > before, "a file was archived")

    def vacuum(self, *, keep: int = 1) -> None:
        """Delete archived files except *keep*."""
        self.journalctl(f"--vacuum-files={keep}")

    @property
    def files(self) -> list[Path]:
        """The files of the journal."""
        return list(self.directory.glob("*.journal"))

    def journalctl(self, *arguments: str) -> bytes:
        """Return what journalctl prints about this journal."""
        command = ["journalctl", "--quiet", f"--directory={self.directory}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S).stdout

    @property
    def last(self) -> tuple[int, str]:
        """The number of the last entry, and its text; 0 if there is none."""
        cursor, text = "", ""
        for line in self.journalctl("--output=export", "--lines=1").decode("utf-8", "replace").splitlines():
            name, _, value = line.partition("=")
            cursor = value if name == "__CURSOR" else cursor
            text = value if name == "MESSAGE" else text
        numbers = [part.removeprefix("i=") for part in cursor.split(";") if part.startswith("i=")]
        return int(numbers[0], 16) if numbers else 0, text

    def settled(self, text: str) -> int:
        """Return the number of the last entry, once that is the one with *text*."""
        eventually(lambda: self.last[1] == text, f"{text!r} is written")
        return self.last[0]

    def close(self) -> None:
        """End it."""
        self._stream.close()
        self._native.close()
        self._process.kill()
        self._process.wait(PATIENCE_S)


@contextlib.contextmanager
def running(folder: Path, *, boot: str = "") -> Iterator[Daemon]:
    """Run a journald in *folder*; *boot*: as at another start of the machine."""
    needs_journald()
    daemon = Daemon(folder, boot)
    try:
        yield daemon
    finally:
        daemon.close()


def script(path: Path, lines: Sequence[str]) -> str:
    """Write a program of the shell that stands for journalctl, and return its path."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)
