"""`mpsr demo`: runs a hub and five producers in one process."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Run a hub and five producers in one process.

    They use a temporary socket and print what they do.

    \b
    Example:
      mpsr demo
    """
    import asyncio

    from producers.examples import both

    try:
        asyncio.run(both.main())
    except ExceptionGroup as group:  # for example a BrokenPipeError of `mpsr demo | head -2`
        failed: Exception = group
        while isinstance(failed, ExceptionGroup):
            failed = failed.exceptions[0]
        raise failed from None
