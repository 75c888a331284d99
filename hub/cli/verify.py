"""`mpsr verify`: checks that the journal is whole."""

from __future__ import annotations

import sys

import click

from hub.cli.options import journal_option
from hub.cli.output import complain
from hub.paths import default_journal
from hub.quantities import counted


@click.command()
@journal_option
def verify(journal: str | None) -> int:
    """Check the journal for damaged, missing and misplaced batches.

    \b
    Examples:
      mpsr verify
      mpsr verify --journal backup
    """
    from hub.errors import JournalUnusable
    from hub.journal.files import DiskFiles
    from hub.journal.reader import open_reader
    from hub.journal.verify import verify as check

    folder = journal or default_journal()
    open_reader(folder).close()
    try:
        verified = check(DiskFiles(folder), path=folder, progress=_show_progress)
    except OSError as error:
        raise JournalUnusable(folder, f"cannot be read: {error.strerror}") from error
    finally:
        _clear_progress()
    for fault in verified.faults:
        complain(f"journal {folder}: {fault}")
    faults = len(verified.faults)
    state = f"{counted(faults, 'fault')}, the rest is whole" if faults else "all whole"
    found = f"{counted(verified.messages, 'message')} in {counted(verified.batches, 'batch', 'batches')}"
    expired = f"; {counted(verified.expired, 'message')} expired by rule" if verified.expired else ""
    click.echo(f"{found}, {counted(verified.segments, 'segment')}: {state}{expired}")
    return 1 if verified.faults else 0


def _show_progress(messages: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{messages} messages checked", nl=False, err=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
