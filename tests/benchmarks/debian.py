"""
Unpacks peers from Debian's packages into the environment of the peers, without installing anything on the machine.

    python -m tests.benchmarks.debian

Each package is downloaded with the packages that it needs and that are not installed, and unpacked into
`.venv-debian`: no service is started, and root is not needed. What cannot be had is named; the sitting names it
too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.peer import DEBIAN, Missing, program
from tests.benchmarks.peers.tokio import CRATES

PACKAGES = {
    "redis-server": "redis-server",
    "rsyslogd": "rsyslog",
    "syslog-ng": "syslog-ng-core",
    "cargo": "cargo",
}
"""The program that is looked for, and the package that has it."""


def main() -> None:
    """Unpack what is missing."""
    wanted = [package for name, package in PACKAGES.items() if not _is_there(name)]
    if not any(path for folder in (DEBIAN, Path("/")) for path in (folder / CRATES).glob("tokio-1.*")):
        wanted.append("librust-tokio-dev")
    if not wanted:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print(f"   not installed, because this is not Debian: {', '.join(wanted)}")
        return
    print(f"== {DEBIAN.name}: {', '.join(wanted)}, from Debian's packages", flush=True)
    missing = [package for package in wanted if not unpack(package)]
    if missing and os.geteuid() == 0:  # the list of packages may be absent or old
        _run(["apt-get", "update", "-qq"])
        missing = [package for package in missing if not unpack(package)]
    if missing:
        print(f"   could not be had: {', '.join(missing)} (as root: apt-get update)")
    _link_crates()


def _is_there(name: str) -> bool:
    try:
        return bool(program(name))
    except Missing:
        return False


def unpack(package: str, run: Callable[[list[str]], str | None] | None = None) -> bool:
    """Download *package* and what it needs besides, and unpack them. Return whether that succeeded."""
    run = run or _run
    listed = run(["apt-get", "--simulate", "--no-install-recommends", "install", package])
    if listed is None:
        return False
    names = [line.split()[1] for line in listed.splitlines() if line.startswith("Inst ")]
    DEBIAN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEBIAN.parent) as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            if run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names]) is None:
                return False
        finally:
            os.chdir(before)
        return all(run(["dpkg", "-x", str(path), str(DEBIAN)]) is not None for path in Path(folder).glob("*.deb"))


def _run(command: list[str]) -> str | None:
    """Return what *command* prints, or None if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print("  ", (done.stderr.strip().splitlines() or ["?"])[-1], file=sys.stderr)
        return None
    return done.stdout


def _link_crates() -> None:
    """Let the unpacked crates and those that are installed be in one folder, as cargo wants them."""
    ours, installed = DEBIAN / CRATES, Path("/", CRATES)
    if ours.is_dir() and installed.is_dir():
        for path in installed.iterdir():
            if not (ours / path.name).exists():
                (ours / path.name).symlink_to(path)


if __name__ == "__main__":
    main()
