"""`mpsr spawn`: runs commands as supervised producers and captures their output."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
from hub.cli.output import complain, wants_colours
from hub.cli.ownhub import OwnHub
from hub.cli.reports import close, lost_messages, report_lost, report_output, show_warnings, warn_without_hub
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
from producers.spawn import processes
from producers.spawn.console import SYSTEM
from producers.spawn.lifecycle import AnyExit, Policy, Restart
from producers.spawn.lines import LINE_BYTES_MAX
from producers.spawn.supervisor import OutputOptions, Spec, Supervisor

if TYPE_CHECKING:
    from producers.spawn.console import Console

LINE_BYTES_MIN, LINE_BYTES_LARGEST = 64, 32 << 20
REAP_S = 1.0
_PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Wishes(NamedTuple):
    """The options of one run."""

    socket: str
    policy: Policy
    options: OutputOptions
    quiet: bool
    is_coloured: bool
    hub: tuple[str, ...]  # the hub's command; empty without --hub


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

    Each line of their output is a message, and so is each exit. The environment of a child has MPSR_SOCKET, MPSR_TAG,
    MPSR_INDEX (with a Procfile also PORT) and PYTHONUNBUFFERED, so that no output is lost in its buffer.

    SIGINT and SIGTERM stop all children, a second one kills them (exit code 130 or 143). SIGHUP, SIGUSR1 and SIGUSR2
    are passed on. The exit code is that of the first child that failed: 128 + N after signal N. If none failed, it is
    1 if output was lost.

    \b
    Examples:
      mpsr spawn -n 4 --tag worker --restart on-failure -- python worker.py
      mpsr spawn --hub                               # the Procfile of this folder, and a hub
      mpsr spawn web                                 # one process of it
      mpsr spawn -f Procfile.dev web=2 worker=4
    """
    path = SocketPath.of_shell(socket or default_socket())
    if procfile is None and means_procfile(words):
        procfile = PROCFILE
    if procfile is not None:
        if tag is not None or count != 1:
            raise usage_error("-n and --tag do not go with a Procfile: write NAME=N for N processes of NAME")
        if procfile == STANDARD_INPUT and stdin is not None:
            raise usage_error("--stdin does not go with -f -: the Procfile is read from standard input")
        specs = specs_of_procfile(procfile, words, env_files, path, port)
    else:
        try:
            specs = specs_of_command(words, tag, count, env_files, path, port)
        except CannotRun as error:
            raise explained(error, words) from None
    if not LINE_BYTES_MIN <= line_max <= LINE_BYTES_LARGEST:
        raise usage_error(f"--line-max must be from {LINE_BYTES_MIN} bytes to {LINE_BYTES_LARGEST >> 20}MiB")
    policy = Policy(
        restart=Restart(restart),
        any_exit=AnyExit(any_exit or ("stop" if procfile is not None else "ignore")),
        stop_timeout_s=stop_timeout,
        attempts_max=attempts,
    )
    hub = _hub_command(path, journal) if with_hub else ()
    is_coloured = wants_colours("never" if no_color else color)
    wishes = Wishes(path, policy, OutputOptions(Join(join), line_max), quiet, is_coloured, hub)
    specs = with_stdin(specs, stdin)
    if dry_run:
        return _print(specs, hub)
    return _run(lambda: _spawn(specs, wishes))


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


def _run(main: Callable[[], Any]) -> int:
    try:
        import uvloop
    except ImportError:
        return int(asyncio.run(main()))
    return int(uvloop.run(main()))


async def _spawn(specs: list[Spec], wishes: Wishes) -> int:
    """Start the hub with --hub, then the children. Stop in reverse order."""
    from producers.blocking import Producer
    from producers.spawn.console import Console
    from producers.spawn.delivery import Delivery

    processes.adopt()  # before the first child: its early orphans would go to another process
    names = [spec.name for spec in specs]
    console = None
    if not wishes.quiet:
        console = Console(1, names, is_coloured=wishes.is_coloured, on_fault=report_output)
    producer = Producer(wishes.socket, tag="mpsr.spawn")
    show_warnings(producer)
    delivery = Delivery(producer, console)
    children = Supervisor(specs, wishes.policy, delivery, wishes.options, ends_orphans=True)
    hub = OwnHub(wishes.hub, wishes.socket, console) if wishes.hub else None
    reaping = asyncio.get_running_loop().create_task(_reap())
    warning = None if hub is not None else asyncio.get_running_loop().create_task(warn_without_hub(producer))
    with _Signals(children, hub, console) as signals:  # until the end: the remaining work has a time limit
        try:
            if hub is not None:
                await hub.start(producer)
            code = await children.run()
        finally:
            late = await asyncio.to_thread(close, producer, has_own_hub=hub is not None)
            if hub is not None:
                await hub.stop()
            reaping.cancel()
            if warning is not None:
                warning.cancel()
            if console is not None:
                await asyncio.to_thread(console.close)
                if console.hidden:
                    complain(f"{console.hidden:,} lines were not shown here: standard output was not read")
    lost = lost_messages(delivery, late)
    if lost is not None:
        report_lost(lost, may_lack_hub=hub is None, socket=wishes.socket)
    return code or int(lost is not None) or signals.exit_code


async def _reap() -> None:
    """Reap orphans every `REAP_S`. SIGCHLD is not available, because the event loop handles it."""
    while True:
        await asyncio.sleep(REAP_S)
        processes.reap()


class _Signals:
    """While entered, SIGINT and SIGTERM stop the children, and the signals of `_PASSED_ON` are passed on to them."""

    def __init__(self, children: Supervisor, hub: OwnHub | None, console: Console | None) -> None:
        self._children = children
        self._hub = hub
        self._console = console
        self._had_terminal = _has_any_terminal()
        self._is_stopping = False
        self.exit_code = 0
        """128 plus the number of the second signal, which kills the children; 0 without one."""

    def __enter__(self) -> _Signals:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        for number in _PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self._pass_on, number)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, *_PASSED_ON):
            loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self._is_stopping:
            self.exit_code = 128 + number
            if self._console is not None:
                self._console.give_up()
        elif number == signal.SIGINT and self._console is not None:
            self._console.show(SYSTEM, [b"stopping; a second Ctrl-C kills"])
        self._is_stopping = True
        self._children.stop()
        if self._hub is not None:
            self._hub.give_up()

    def _pass_on(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and self._had_terminal and not _has_any_terminal():
            self._stop(number)
        else:
            self._children.pass_on(number)


def _has_any_terminal() -> bool:
    """Return whether standard input, output or error is a terminal that has not hung up."""
    return any(map(os.isatty, (0, 1, 2)))
