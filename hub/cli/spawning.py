"""
One run of `mpsr spawn`: a hub with --hub, the children, and the signals of this process, from the start to the report.

Always true:
- at the end, in this order: the children have ended, their messages are sent, the hub stops, the output is written;
- a second SIGINT or SIGTERM kills the children.

Not here: the options (hub.cli.spawn), starting and restarting of children (producers.spawn), the hub
(hub.cli.ownhub), what is reported (hub.cli.reports).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

from hub.cli.output import complain
from hub.cli.ownhub import OwnHub
from hub.cli.reports import close, lost_messages, report_lost, report_output, show_warnings, warn_without_hub
from producers.blocking import Producer
from producers.spawn import processes
from producers.spawn.console import SYSTEM, Console
from producers.spawn.delivery import Delivery
from producers.spawn.lifecycle import Policy
from producers.spawn.output import OutputOptions
from producers.spawn.supervisor import Spec, Supervisor

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


def run(specs: Sequence[Spec], wishes: Wishes) -> int:
    """Run *specs* until all have ended, and return the exit code."""
    work = _spawn(list(specs), wishes)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


async def _spawn(specs: list[Spec], wishes: Wishes) -> int:
    """Start the hub with --hub, then the children. Stop in reverse order."""
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
