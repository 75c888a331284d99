"""`mpsr hub`: runs the service in the foreground."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import click

from hub.alerts.runner import check_readers
from hub.cli.options import config_option
from hub.cli.output import complain, discard_output, renderer
from hub.paths import check_default
from hub.service.config import FIELDS
from hub.service.keys import KEYS, Key
from hub.service.preflight import check_sources, check_start, check_web, notes_on_sources, users_of
from hub.service.settings import LoadedConfig, load, misspelt_variables
from hub.service.systemd import has_inherited_sockets


def _with_keys(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each configuration key, as text: only hub.service.settings reads values."""
    for key in reversed(KEYS):
        is_list = FIELDS[key.name].is_list
        if FIELDS[key.name].is_switch:
            command = click.option(key.flag, key.name, flag_value="true", default=None, help=key.help)(command)
            continue
        command = click.option(
            key.flag,
            key.name,
            metavar=key.metavar,
            help=_help(key, is_list=is_list),
            multiple=is_list,
            shell_complete=functools.partial(_complete, key.metavar.split("|") if "|" in key.metavar else []),
        )(command)
    return command


def _complete(values: list[str], ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete.lower())]


def _help(key: Key, *, is_list: bool) -> str:
    default = f"  [default: {key.default_text}]" if key.default_text else ""
    return f"{key.help}{' Repeatable.' if is_list else ''}{default}"


@click.command()
@_with_keys
@config_option
@click.option(
    "--check",
    is_flag=True,
    help="Check the configuration and exit without starting a hub. Also lists globs that match no file.",
)
@click.option(
    "--print",
    "is_printing",
    is_flag=True,
    help="Print committed messages. Frames of more than 256 KiB are left out.",
)
def hub(config: str | None, check: bool, is_printing: bool, **flags: Any) -> None:
    """Run the hub in the foreground.

    SIGTERM and Ctrl-C stop it; no accepted message is lost. SIGHUP reloads the configuration. Each option can also be
    set by a variable (MPSR_JOURNAL_SIZE for --journal-size) and by a key of the file (journal_size).

    \b
    Examples:
      mpsr hub --socket /run/mpsr/hub.sock --journal /var/lib/mpsr/journal --group adm
      mpsr hub --check
    """

    def reload() -> LoadedConfig:
        return load(flags, file=config)

    settings = reload()
    for sentence in misspelt_variables(os.environ):
        complain(sentence)
    for name in ("socket", "journal"):
        if settings.values[name].origin == "default":
            check_default(name, getattr(settings.config, name))
    check_start(settings.config, is_socket_inherited=has_inherited_sockets())
    if check:
        _check(settings)
        return

    import uvloop

    from hub.log import set_level
    from hub.service.heap import keep_freed_memory
    from hub.service.service import Service
    from hub.sinks.stdout import batch_writer

    set_level(logging.getLevelNamesMapping()[settings.config.log_level.upper()])

    async def serve() -> None:
        print_batch = batch_writer(renderer(None), discard_output) if is_printing else None
        await Service(settings.config, print_batch=print_batch, load=reload).run()

    keep_freed_memory()
    uvloop.run(serve())


def _check(settings: LoadedConfig) -> None:
    """Print that the configuration is valid, and what else is known of it. Raises SourceError."""
    check_sources(settings.config)
    check_web(settings.config)
    check_readers(settings.config.all_readers)
    used = "".join(
        f"; {f'process {pid}' if pid else 'another process'} has its {' and its '.join(names)} now"
        for pid, names in users_of(settings.config).items()
    )
    click.echo(f"mpsr: valid ({settings.file or 'no file'}){used}")
    for note in notes_on_sources(settings.config):
        complain(note)
