"""`mpsr import`: sends finished logs to the hub, once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hub.cli.options import Named, complete_tag, socket_option, timeout_option, usage_error
from hub.cli.output import complain
from hub.configfile import socket_path
from hub.escaping import escape
from hub.quantities import counted
from producers import BadRecord, ProducerError

if TYPE_CHECKING:
    from hub.importing.contents import Contents
    from hub.importing.importer import Importer, Result

FORMATS = ("text", "json", "syslog", "cri", "docker", "journald")
"""The names in hub.importing.formats, a module that takes long to import."""
PROGRESS_S = 0.2
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@click.command("import")
@socket_option
@click.option(
    "-t", "--tag", shell_complete=complete_tag, metavar="TEXT",
    help="Tag of the messages.  [default: the format's name]",
)  # fmt: skip
@click.option("--parse", "kind", type=Named(FORMATS), help="Format of the lines.  [default: detected from the content]")
@timeout_option
@click.argument("file", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
def importing(socket: str | None, tag: str | None, kind: str | None, timeout: float, file: Sequence[str]) -> int:
    """Send finished logs to the hub, once.

    Each FILE is text, JSON lines, syslog, a container's log (CRI, Docker) or an export of the systemd journal,
    plain or compressed with gzip or zstd; - is standard input. Content that the hub already has is not sent again,
    even under another name. After an interruption, or when a log has grown, run the command again. Exit code 0
    means that all of it is on the hub's disk.

    \b
    Examples:
      mpsr import /var/log/nginx/access.log.*.gz --tag nginx
      mpsr import --parse json events.ndjson.zst
      journalctl -o export --since yesterday | mpsr import -
    """
    from hub.importing.importer import Importer

    if tag is not None:
        _check_tag(tag)
    progress = _Progress()
    importer = Importer(socket or socket_path(), tag=tag, kind=kind, timeout=timeout, progress=progress)
    messages = sent = known = failed = 0
    try:
        for path in file:
            result = _import(path, importer, progress)
            if result is None:
                failed += 1
                continue
            messages, sent, known = messages + result.messages, sent + result.bytes, known + result.known_bytes
            failed += bool(result.fault or result.left_out)
    except KeyboardInterrupt:
        progress.clear()
        complain("interrupted; run the same command again to continue")
        return 130
    finally:
        progress.clear()
    there = f"; {_size(known)} were already there" if known else ""
    click.echo(f"{counted(messages, 'message')} imported, {_size(sent)}{there}")
    return 1 if failed else 0


def _import(path: str, importer: Importer, progress: _Progress) -> Result | None:
    """Import one file, and complain of faults; None if it failed before its end. Raises ProducerError."""
    from hub.importing.contents import BadContents, Contents
    from hub.importing.importer import Stalled

    progress.begin(path)
    try:
        with Contents(path) as contents:
            result = importer.run(contents)
    except ProducerError:  # of the hub, and some are errors of the system, too
        raise
    except (OSError, BadContents, Stalled) as error:
        progress.clear()
        complain(f"{path}: {error.strerror or error if isinstance(error, OSError) else error}")
        return None
    progress.clear()
    if result.left_out:
        complain(f"{path}: {counted(result.left_out, 'entry', 'entries')} too large to be kept")
    if result.fault:
        complain(f"{path}: {result.fault}; everything before that is imported")
    return result


def _check_tag(tag: str) -> None:
    from producers.record import encode_tag

    if not tag:
        raise usage_error("--tag: the tag is empty")
    try:
        encode_tag(tag)
    except BadRecord as error:
        raise usage_error(f"--tag: {error.reason}") from None


class _Progress:
    """One line on a terminal: how far a file has been read."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._name = ""
        self._began = self._due = 0.0
        self._before = 0

    def begin(self, path: str) -> None:
        self._name = escape(os.path.basename(path))
        self._began, self._due = time.monotonic(), 0.0

    def __call__(self, contents: Contents) -> None:
        now = time.monotonic()
        if not self._is_shown or now < self._due:
            return
        self._due = now + PROGRESS_S
        done, whole = contents.read_bytes, max(contents.size, 1)
        rate = done / max(now - self._began, PROGRESS_S)
        line = f"{self._name}: {100 * done // whole} %, {_size(done)} of {_size(whole)}, {_size(int(rate))}/s"
        click.echo(f"\r\x1b[K{line}", nl=False, err=True)

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return counted(count, "byte")
