"""
The parameters of a request whose method has named parameters only: whole numbers, texts, a place in the journal.

Always true: what is returned is valid; anything else is an `InvalidParams` that names the parameter.

Not here: parameters of typed functions (hub.control.typed), filters of queries (hub.control.filters).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from hub.errors import InvalidParams
from hub.quantities import parse_moment
from hub.wire.jsonrpc import Request


def place_of(given: object) -> tuple[int | None, int | None]:
    """
    Return what *given* stands for: a sequence, or a time in nanoseconds since the epoch; None for both if it is None.

    A number is a sequence, also as text; any other text is a time, as `mpsr logs` takes it. Raises InvalidParams.
    """
    if given is None:
        return None, None
    if isinstance(given, str) and not given.isdecimal():
        try:
            return None, parse_moment(given, time.time_ns())
        except ValueError as error:
            raise InvalidParams(f"to: {error}", param="to") from error
    try:
        sequence = int(given) if isinstance(given, (int, str)) and not isinstance(given, bool) else -1
    except ValueError:  # too many digits
        sequence = -1
    if not 0 <= sequence < 1 << 63:
        raise InvalidParams("to is neither a sequence nor a time", param="to")
    return sequence, None


def numbers(request: Request, *names: str) -> dict[str, int]:
    """Return the parameters of *request*: whole numbers with some of these *names*. Raises InvalidParams."""
    found: dict[str, int] = {}
    for name, value in _named(request, names):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidParams(f"{name} is no whole number from 0 up", param=name)
        found[name] = value
    return found


def texts(request: Request, *names: str) -> dict[str, str]:
    """Return the parameters of *request*: texts with some of these *names*. Raises InvalidParams."""
    found: dict[str, str] = {}
    for name, value in _named(request, names):
        if not isinstance(value, str) or not value.isprintable():
            raise InvalidParams(f"{name} is not a text", param=name)
        found[name] = value
    return found


def _named(request: Request, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Yield the parameters of *request*, which have some of these *names*. Raises InvalidParams."""
    params = request.params or {}
    if not isinstance(params, dict):
        raise InvalidParams(f"{request.method} has named parameters: {', '.join(names)}")
    for name, value in params.items():
        if name not in names:
            shown = name[:32]
            raise InvalidParams(f"{request.method} has no parameter {shown!r} ({', '.join(names)})", param=shown)
        yield name, value
