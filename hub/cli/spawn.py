"""
`mpsr spawn`: runs commands as supervised producers and captures their output.

Not here: the children, from words and files (hub.cli.words, hub.cli.specs), running them (hub.cli.spawning).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

import click

from hub.cli.options import (
    SECONDS,
    SIZE,
    color_option,
    journal_option,
    no_color_option,
    socket_option,
    usage_error,
    whole,
)
from hub.cli.output import wants_colours
from hub.cli.specs import (
    CHILDREN_MAX,
    STANDARD_INPUT,
    CannotRun,
    specs_of_command,
    specs_of_procfile,
    with_stdin,
)
from hub.cli.words import (
    PROCFILE,
    SpawnCommand,
    complete_name,
    complete_word,
    explained,
    means_procfile,
)
from hub.escaping import escape
from hub.paths import SocketPath, default_socket
from hub.wire.multiline import Join
from producers.spawn.lifecycle import AnyExit, Policy, Restart
from producers.spawn.lines import LINE_BYTES_MAX
from producers.spawn.output import OutputOptions
from producers.spawn.supervisor import Spec

LINE_BYTES_MIN, LINE_BYTES_LARGEST = 64, 32 << 20


@click.command(cls=SpawnCommand)
@click.option(
    "-n",
    "count",
    type=whole(1, CHILDREN_MAX),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of children that run the command.",
)
@click.option(
    "--tag",
    metavar="NAME",
    help="The children and their messages are NAME.1, NAME.2, ...  [default: the command's name]",
)
@click.option(
    "-f",
    "--procfile",
    metavar="FILE",
    help="Run the processes of FILE, or of standard input if it is -.  [default: Procfile, if there is no COMMAND]",
)
@click.option(
    "-e",
    "--env",
    "env_files",
    metavar="FILE",
    multiple=True,
    help="File of variables for the children. Repeatable.  [default: .env beside the Procfile, if it exists]",
)
@click.option(
    "-p",
    "--port",
    type=whole(1, 65535),
    metavar="N",
    help="PORT of the first process; each name adds 100, each further process 1.  [default: $PORT or 5000]",
)
@click.option("--dry-run", is_flag=True, help="Print what would be run, and run nothing.")
@click.option(
    "--restart",
    type=click.Choice([one.value for one in Restart]),
    default="never",
    show_default=True,
    help="When to start a child again after it has ended. The pauses grow from 0.25 s to 30 s.",
)
@click.option(
    "--attempts",
    type=whole(1),
    default=10,
    show_default=True,
    metavar="N",
    help="Give up a child that ended N times in a row within 10 s of its start.",
)
@click.option(
    "--any-exit",
    type=click.Choice([one.value for one in AnyExit]),
    help="Whether to stop the others when one has ended for good.  [default: stop with a Procfile, else ignore]",
)
@click.option(
    "--stop-timeout",
    type=SECONDS,
    default="10",
    show_default=True,
    metavar="S",
    help="Send SIGKILL S seconds after SIGTERM.",
)
@click.option(
    "--stdin",
    metavar="NAME",
    shell_complete=complete_name,
    help="Connect standard input to this child (NAME.N; NAME means NAME.1).",
)
@click.option(
    "--line-max",
    type=SIZE,
    default=f"{LINE_BYTES_MAX >> 20}MiB",
    show_default=True,
    metavar="SIZE",
    help="A longer line becomes several messages.",
)
@click.option(
    "--join",
    type=click.Choice([one.value for one in Join]),
    default="auto",
    show_default=True,
    help="Which lines become one message. auto: tracebacks of Python, stacks of Node, Java, Go and Rust. traceback: "
    "those of Python. indent: as auto, and indented lines.",
)
@click.option("--hub", "with_hub", is_flag=True, help="Also start a hub, and stop it last.")
@socket_option
@journal_option
@click.option("-q", "--quiet", is_flag=True, help="Do not print the output of the children here.")
@color_option
@no_color_option
@click.argument(
    "words",
    nargs=-1,
    metavar="[-- COMMAND [ARG]... | NAME[=N]...]",
    type=click.UNPROCESSED,
    shell_complete=complete_word,
)
def spawn(  # noqa: PLR0913, PLR0917  one for each option
    count: int,
    tag: str | None,
    procfile: str | None,
    env_files: Sequence[str],
    port: int | None,
    dry_run: bool,
    restart: str,
    attempts: int,
    any_exit: str | None,
    stop_timeout: float,
    stdin: str | None,
    line_max: int,
    join: str,
    with_hub: bool,
    socket: str | None,
    journal: str | None,
    quiet: bool,
    color: str,
    no_color: bool,
    words: Sequence[str],
) -> int:
    """Run commands as supervised producers.

    Each line of their output becomes a message, as does each exit. The environment of a child contains MPSR_SOCKET,
    MPSR_TAG, MPSR_INDEX (with a Procfile also PORT) and PYTHONUNBUFFERED, so that no output is lost in a buffer.

    SIGINT and SIGTERM stop all children; a second signal kills them (exit code 130 or 143). SIGHUP, SIGUSR1 and
    SIGUSR2 are passed on. The exit code is that of the first child that failed: 128 + N after signal N. If none
    failed, it is 1 if output was lost.

    \b
    Examples:
      mpsr spawn -n 4 --tag worker --restart on-failure -- python worker.py
      mpsr spawn --hub                               # the Procfile of this folder, and a hub
      mpsr spawn web                                 # one process of it
      mpsr spawn -f Procfile.dev web=2 worker=4
    """
    from hub.cli.spawning import Wishes, run

    path = SocketPath.of_shell(socket or default_socket())
    if procfile is None and means_procfile(words):
        procfile = PROCFILE
    _check(procfile, tag, count, stdin, line_max)
    if procfile is not None:
        specs = specs_of_procfile(procfile, words, env_files, path, port)
    else:
        try:
            specs = specs_of_command(words, tag, count, env_files, path, port)
        except CannotRun as error:
            raise explained(error, words) from None
    specs = with_stdin(specs, stdin)
    hub = _hub_command(path, journal) if with_hub else ()
    if dry_run:
        return _print(specs, hub)
    policy = Policy(
        restart=Restart(restart),
        any_exit=AnyExit(any_exit or ("stop" if procfile is not None else "ignore")),
        stop_timeout_s=stop_timeout,
        attempts_max=attempts,
    )
    is_coloured = wants_colours("never" if no_color else color)
    return run(specs, Wishes(path, policy, OutputOptions(Join(join), line_max), quiet, is_coloured, hub))


def _check(procfile: str | None, tag: str | None, count: int, stdin: str | None, line_max: int) -> None:
    """Raise a usage error if options contradict each other, or the length of a line is out of range."""
    if procfile is not None and (tag is not None or count != 1):
        raise usage_error("-n and --tag cannot be used with a Procfile: write NAME=N for N processes of NAME")
    if procfile == STANDARD_INPUT and stdin is not None:
        raise usage_error("--stdin cannot be used with -f -: the Procfile is read from standard input")
    if not LINE_BYTES_MIN <= line_max <= LINE_BYTES_LARGEST:
        raise usage_error(f"--line-max must be from {LINE_BYTES_MIN} bytes to {LINE_BYTES_LARGEST >> 20}MiB")


def _print(specs: Sequence[Spec], hub: Sequence[str]) -> int:
    """Print what would be run: name, PORT and command, as one would type it."""
    rows = [("hub", "", shlex.join(hub))] if hub else []
    for spec in specs:
        is_shell = spec.cwd is not None  # an entry of a Procfile
        port = spec.env.get("PORT", "")
        rows.append(
            (spec.name, f"PORT={port} " if port else "", spec.command[2] if is_shell else shlex.join(spec.command))
        )
    width = max(len(escape(name)) for name, _, _ in rows)
    for name, port, command in rows:
        click.echo(f"{escape(name).ljust(width)} | {port}{escape(command)}")
    return 0


def _hub_command(socket: str, journal: str | None) -> tuple[str, ...]:
    own = ("--journal", os.path.abspath(journal)) if journal else ()
    level = () if "MPSR_LOG_LEVEL" in os.environ else ("--log-level", "warning")
    return (sys.executable, "-P", "-m", "hub", "--socket", socket, *own, *level)
