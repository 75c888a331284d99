"""
The values of a sink's table that are checked when the configuration is read.

Not here: the tables (hub.sinks.kinds), servers, URLs and headers (hub.sinks.destination), path templates
(hub.sinks.pathtemplate).
"""

from __future__ import annotations

from typing import Self

from hub.journal.cursors import is_name
from hub.paths import AbsolutePath
from hub.quantities import Duration, Size
from hub.query.condition import Condition
from hub.query.level import LevelCondition
from hub.sinks.pathtemplate import PathTemplate


class SinkName(str):
    """The name of a sink, which is that of its cursor."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the name in the text *given*. Raises ValueError."""
        if not isinstance(given, str) or not is_name(given):
            raise ValueError(f"not a name: {given!r} (1 to 32 letters, digits, - and _, such as archive)")
        return cls(given)


class Where(str):
    """A condition on a field, as ``mpsr logs --where`` takes it."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the condition in the text *given*. Raises ValueError."""
        if not isinstance(given, str):
            raise ValueError(f"not a condition: {given!r} (write it like status>=500)")
        Condition(given)
        return cls(given)


class Level(str):
    """A minimum level, as ``mpsr logs --level`` takes it."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the level in *given*: a name, or a severity of syslog. Raises ValueError."""
        LevelCondition(str(given))
        return cls(given)


class Template(str):
    """A template of paths."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the template in the text *given*. Raises ValueError if it could lead out of its folder."""
        return cls(PathTemplate(AbsolutePath.parse(given)).text)


class Span(Duration):
    """A time that needs a unit, and is at least a second."""

    __slots__ = ()
    least = 1.0
    needs_unit = True
    advice = "; leave it out for no limit"


class FileSize(Size):
    """The size at which a file is rotated."""

    __slots__ = ()
    least = 1 << 10


class FrameSize(Size):
    """The size of the largest message for a Forward server."""

    __slots__ = ()
    least = 64 << 10
