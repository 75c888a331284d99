"""rsyslog and syslog-ng: lines over a stream socket, parsed, written to one file, which is not synced."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.benchmarks.peer import DEBIAN, Peer, Work, output_of, program
from tests.benchmarks.peers.hub import sender_command

RSYSLOG = """
global(workDirectory="{folder}")
module(load="imptcp")
input(type="imptcp" path="{folder}/s")
template(name="plain" type="string" string="%msg%\\n")
action(type="omfile" file="{folder}/out" template="plain")
"""
SYSLOG_NG = """
@version: 3.38
source s {{ unix-stream("{folder}/s" max-connections(2000) log-iw-size(20000)); }};
destination d {{ file("{folder}/out" template("$MSG\\n")); }};
log {{ source(s); destination(d); flags(flow-control); }};
"""


class Syslog(Peer):
    """What both have: the producers, and a file whose lines are counted."""

    durable = "in the page cache"
    counts = "lines of the file that it writes"
    config = ""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._seen = 0
        self._lines = 0

    def command(self, folder: Path, config: str) -> list[str]:
        raise NotImplementedError

    def start(self, folder: Path, work: Work) -> None:
        self._seen = self._lines = 0
        config = folder / "config"
        config.write_text(self.config.format(folder=folder))
        self.begin(folder, self.command(folder, str(config)))
        self.await_socket(folder / "s")

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        return sender_command("syslog", f"{self.folder}/s", work, first=first, producers=producers)

    def counted(self) -> int:
        path = self.folder / "out"
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._seen)
                while data := file.read(1 << 20):
                    self._seen += len(data)
                    self._lines += data.count(b"\n")
        return self._lines


class Rsyslog(Syslog):
    package = "rsyslog (Debian)"
    config = RSYSLOG

    def version(self) -> str:
        found = re.search(r"rsyslogd\s+([\d.]+)", output_of(program("rsyslogd"), "-v"))
        return found[1] if found else "?"

    def command(self, folder: Path, config: str) -> list[str]:
        found = program("rsyslogd")
        if not found.startswith(str(DEBIAN)):  # the profile of a distribution may confine the original
            found = str(shutil.copy(found, folder))
        return [found, "-n", "-f", config, "-i", f"{folder}/pid"]


class SyslogNg(Syslog):
    package = "syslog-ng-core (Debian)"
    config = SYSLOG_NG

    def version(self) -> str:
        found = re.search(r"\(([\d.]+)\)", output_of(program("syslog-ng"), *_modules(), "--version"))
        return found[1] if found else "?"

    def command(self, folder: Path, config: str) -> list[str]:
        files = ["-f", config, "-p", f"{folder}/pid", "-R", f"{folder}/persist", "-c", f"{folder}/ctl"]
        return [program("syslog-ng"), "-F", "--no-caps", *_modules(), *files]


def _modules() -> list[str]:
    """Return where the modules are, if syslog-ng is unpacked."""
    return [f"--module-path={path}" for path in DEBIAN.glob("usr/lib/syslog-ng/*") if path.is_dir()]
