"""`mpsr hub` and `mpsr demo`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import click

from hub.cli.options import (
    LENGTH,
    MODE,
    SIZE,
    discard_output,
    journal_option,
    renderer,
    socket_option,
    usage_error,
)
from hub.config import default_journal, default_socket

if TYPE_CHECKING:
    from hub.journal.reader import Gap
    from hub.message import Batch


@click.command()
@socket_option
@journal_option
@click.option("--journal-size", type=SIZE, default="1GiB", show_default=True, help="How much of the past is kept.")
@click.option("--retain", type=LENGTH, metavar="DURATION", help="Keep nothing longer than this: 90s, 12h, 7d.")
@click.option(
    "--durability",
    type=click.Choice(["fsync", "relaxed"]),
    default="fsync",
    show_default=True,
    help="fsync: an acknowledgement means on disk. relaxed: a power cut may cost the last second.",
)
@click.option("--mode", type=MODE, default="0660", show_default=True, help="Permissions of the socket.")
@click.option("--group", metavar="NAME", help="Group of the socket.")
@click.option("--print", "show", is_flag=True, help="Print each message as it is committed.")
def hub(
    socket: str | None,
    journal: str | None,
    journal_size: int,
    retain: float | None,
    durability: Literal["fsync", "relaxed"],
    mode: int,
    group: str | None,
    show: bool,
) -> None:
    """Run the hub in the foreground. SIGTERM and Ctrl-C stop it; nothing accepted is lost.

    \b
    Example:
      mpsr hub --socket /run/mpsr/hub.sock --journal /var/lib/mpsr/journal --group adm
    """
    import uvloop

    from hub.journal.retention import KEEP_BYTES_MIN
    from hub.reporting import set_level
    from hub.service import Options, Service

    if journal_size < KEEP_BYTES_MIN:
        raise usage_error(f"--journal-size is {journal_size} bytes, at least {KEEP_BYTES_MIN >> 20}MiB")
    options = Options(
        socket=socket or default_socket(),
        journal=os.path.abspath(journal or default_journal()),
        journal_bytes=journal_size,
        retain_s=retain,
        durability=durability,
        mode=mode,
        group=group,
    )
    set_level(logging.INFO)

    async def serve() -> None:
        await Service(options, show=_printer() if show else None).run()

    uvloop.run(serve())


def _printer() -> Callable[[Batch | Gap], None]:
    from hub.journal.query import Query

    query, render = Query(), renderer(None)

    def show(batch: Batch | Gap) -> None:
        lines = "".join(f"{render(message)}\n" for message in query.messages(iter((batch,))))
        data = memoryview(lines.encode("utf-8", "replace"))
        try:
            while data:  # not through sys.stdout: its lock would be held while nobody reads, and at exit
                data = data[os.write(1, data) :]
        except OSError:  # nobody looks any more; the hub goes on
            discard_output()

    return show


@click.command()
def demo() -> None:
    """Run a hub and five producers in one process, on a temporary socket, and show what they say."""
    import asyncio

    from producers.examples import both

    asyncio.run(both.main())
