"""
Globs that callers give.

A glob becomes a regular expression, and compiling one can take long: a set such as ``[\u0100-\uffff]`` takes a
millisecond or two, and a request of 16 KiB has room for a thousand. In ASCII, a set takes 40 µs.

Always true: compiling what `check` lets pass takes less than 20 ms.

Not here: globs of the configuration (hub.access), what they select (hub.control.events, hub.query.query).
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.errors import InvalidParams

GLOBS_CHARS_MAX = 1024
"""Maximum characters of all globs of a request together."""


def check(globs: Sequence[str], param: str) -> None:
    """Raise InvalidParams, which names *param*, if compiling *globs* could take long."""
    if sum(map(len, globs)) > GLOBS_CHARS_MAX:
        raise InvalidParams(f"{param}: globs of more than {GLOBS_CHARS_MAX} characters", param=param)
    for glob in globs:
        if "[" in glob and not glob.isascii():
            raise InvalidParams(
                f"{param}: a glob with [...] must be ASCII; * and ? stand for any character", param=param
            )
