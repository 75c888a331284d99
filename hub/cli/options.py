"""
Options shared by several commands, and option types.

Always true: a wrong value is a usage error that names a correct alternative.

Not here: output (hub.cli.output).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import click

from hub.configfile import check_named_file, configured_path
from hub.paths import check_default, default_journal, default_socket
from hub.quantities import Duration, Size

T = TypeVar("T")


def _configured(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the option's value, else the value in the hub's file unless a variable is set."""
    assert param.name is not None
    _named(ctx, param, value)
    if value is not None or os.environ.get(f"MPSR_{param.name.upper()}"):
        check_named_file()  # one error for all commands, whether they need the file or not
        return value
    path = configured_path(param.name)
    if path is None:
        check_default(param.name, _DEFAULTS[param.name]())
    return path


def _named(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the option's value. An empty text is no path: a variable of a script was not set."""
    if value == "":
        raise click.BadParameter("the path is empty (leave the option out for the default)", ctx, param)
    return value


_DEFAULTS = {"socket": default_socket, "journal": default_journal}


socket_option = click.option(
    "--socket",
    metavar="PATH",
    callback=_configured,
    help="The hub's socket.  [default: $MPSR_SOCKET, as configured, or per user]",
)
config_option = click.option(
    "--config",
    metavar="FILE",
    callback=_named,
    help="Configuration file.  [default: $MPSR_CONFIG, ~/.config/mpsr/hub.toml or /etc/mpsr/hub.toml]",
)
journal_option = click.option(
    "--journal",
    metavar="DIR",
    callback=_configured,
    help="The journal's folder.  [default: $MPSR_JOURNAL, as configured, or per user]",
)


class Parsed(click.ParamType[Any], Generic[T]):
    """A value that *parse* reads from text. The text of its ValueError is the error message."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parse_moment(text: str) -> int:
    import time

    from hub.quantities import parse_moment

    return parse_moment(text, time.time_ns())


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(Duration.parse(text))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= SECONDS_MAX:
        raise ValueError(f"not a number of seconds: {text!r} (0 to {SECONDS_MAX:.0f}, or like 90s, 10m)")
    return seconds


def whole(least: int = 0, most: int | None = None) -> Parsed[int]:
    """Return the type of an option that is a whole number. Its range is in the error message, not in the help."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"\s*[-+]?[0-9]{1,30}\s*", text) else least - 1
        if number < least or (most is not None and number > most):
            limits = f"{least} or more" if most is None else f"{least} to {most}"
            raise ValueError(f"not a whole number: {text!r} ({limits})")
        return number

    return Parsed("number", parse)


class Named(click.Choice[str]):
    """One of *choices*, in any case, or by the name that it has in another program: *aliases*."""

    def __init__(self, choices: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        super().__init__(choices)
        self._aliases = aliases or {}

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """Return the choice that is meant."""
        name = str(choice).lower()
        return self._aliases.get(name, name)


color_option = click.option(
    "--color", type=Named(["auto", "always", "never"]), is_flag=False, flag_value="always", default="auto",
    show_default=True,
    help="auto: colours on a terminal, always with $FORCE_COLOR, never with $NO_COLOR.",
)  # fmt: skip
no_color_option = click.option("--no-color", is_flag=True, hidden=True)
SECONDS_MAX = 1e6
SECONDS = Parsed("seconds", _parse_seconds)
SIZE = Parsed("size", Size.parse)
timeout_option = click.option(
    "--timeout",
    type=SECONDS,
    default="10",
    show_default=True,
    metavar="S",
    help="Give up after S seconds without an answer.",
)
MOMENT = Parsed("time", _parse_moment)


def complete_level(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the levels that begin with *incomplete*."""
    from hub.query.level import LEVELS

    return [level for level in LEVELS if level.startswith(incomplete.lower())]


def complete_tag(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the tags of the last messages in the journal that begin with *incomplete*; none if it cannot be read."""
    from hub.errors import MpsrError
    from hub.query.backward import last_tags

    try:
        tags = last_tags(ctx.params.get("journal") or default_journal())
    except (MpsrError, OSError):
        return []
    found = sorted(tag for tag in tags if tag.startswith(incomplete) and tag.isprintable())
    if os.environ.get("_MPSR_COMPLETE", "").startswith("bash"):  # the others quote by themselves
        return [re.sub(r"[^\w@%+=:,./-]", r"\\\g<0>", tag) for tag in found]
    return found


def usage_error(message: str) -> click.UsageError:
    """Return a usage error, for the caller to raise."""
    return click.UsageError(message, click.get_current_context())
