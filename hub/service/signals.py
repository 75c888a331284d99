"""
Signals of the service: SIGTERM and SIGINT stop it, SIGHUP reloads its configuration.

Always true: a signal interrupts nothing. It calls a function that notes the request, and the service carries it out
later: during a start, a stop takes place as soon as the journal is open, and a reload when the start is over.

Not here: what a stop and a reload do (hub.service.service, hub.service.reloading).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def handled(*, stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """While entered, SIGTERM and SIGINT call *stop*. SIGHUP calls *reload*, or *stop* if the terminal has closed."""
    loop, had_terminal = asyncio.get_running_loop(), _is_terminal_open()

    def hang_up() -> None:
        if had_terminal and not _is_terminal_open():
            stop()
        else:
            reload()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: hang_up}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _is_terminal_open() -> bool:
    """Return whether standard error is a terminal that has not hung up."""
    return os.isatty(2)
