"""
A tokio program (tokio-mpsr, beside this folder): a task for each connection, one `mpsc` channel, one receiver.

It is built with cargo. The crates are those that the harness unpacked from Debian's packages, those that are installed
(librust-tokio-dev), or else those of the crate registry.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.benchmarks.peer import DEBIAN, Missing, Peer, Work, environment, output_of, program
from tests.benchmarks.peers.hub import sender_command

SOURCE = Path(__file__).parents[1] / "tokio-mpsr"
CRATES = "usr/share/cargo/registry"
THREADS = "2"


class Tokio(Peer):
    """*mode*: `message`, one channel send for each message; `read`, one for each read."""

    counts = "each message, in the one receiver"
    package = "librust-tokio-dev (Debian), built with cargo"

    def __init__(self, name: str, mode: str) -> None:
        super().__init__(name)
        self._mode = mode

    def version(self) -> str:
        build()
        lock = (SOURCE / "Cargo.lock").read_text(encoding="utf-8").splitlines()
        return lock[lock.index('name = "tokio"') + 1].split('"')[1]

    def start(self, folder: Path, work: Work) -> None:
        self.begin(folder, [build(), self._mode, "listen", f"{folder}/s", THREADS])
        self.await_line()

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        return sender_command("prefixed", f"{self.folder}/s", work, first=first, producers=producers)


@functools.cache
def build() -> str:
    """Build the program, and return the path of the binary. Raises Missing."""
    command = [program("cargo"), "build", "--quiet", "--release", "--manifest-path", str(SOURCE / "Cargo.toml")]
    for crates in (DEBIAN / CRATES, Path("/", CRATES)):
        if any(crates.glob("tokio-1.*")):
            command += ["--offline", "--config", "source.crates-io.replace-with='packaged'"]
            command += ["--config", f"source.packaged.directory='{crates}'"]
            break
    (SOURCE / "Cargo.lock").unlink(missing_ok=True)  # an older cargo cannot read it; the same crates give the same one
    done = subprocess.run(command, capture_output=True, text=True, env=environment(command), check=False)
    if done.returncode:
        raise Missing(f"the tokio program cannot be built: {(done.stderr.strip().splitlines() or ['?'])[0]}")
    return str(SOURCE / "target" / "release" / "tokio-mpsr")


def rust_version() -> str:
    return output_of(program("rustc"), "--version").strip()
