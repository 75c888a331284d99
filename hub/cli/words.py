"""
The words of `mpsr spawn`: whether they are a command or entries of the Procfile.

Also what shells complete, and what commands of other supervisors mean.

Always true: words after `--` are a command.

Not here: the children that they describe (hub.cli.specs), options of other supervisors (hub.cli.hints).
Source: the command lines of foreman and honcho.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

from hub.cli.options import usage_error
from hub.cli.specs import NOT_FOUND, STANDARD_INPUT, CannotRun, entries_of, read_text
from producers.spawn.procfile import nearest, parse_procfile

PROCFILE = "Procfile"
_AFTER_DASHES = "mpsr.spawn.after_dashes"


class SpawnCommand(click.Command):
    """Notes whether the words follow `--`, and explains that a command with options has to."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AFTER_DASHES] = "--" in args
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            command = _command_before(error.option_name, given)
            if not command:
                raise
            meant = f"a command with options follows `--`, as in `mpsr spawn -- {shlex.join(command)}`"
            raise click.UsageError(f"No such option {error.option_name!r}: {meant}", ctx) from None


def _command_before(option: str, args: Sequence[str]) -> Sequence[str]:
    """Return the command in *args* whose option *option* is; empty if no word before it is a command."""
    for index, word in enumerate(args):
        if word == "--" or word.startswith(option):
            break
        if not word.startswith("-") and shutil.which(word) is not None:
            return args[index:]
    return ()


def is_command() -> bool:
    """Return whether the words follow `--`."""
    return bool(click.get_current_context().meta[_AFTER_DASHES])


def means_procfile(words: Sequence[str]) -> bool:
    """Return whether *words* are entries of the Procfile in this folder, not a command. Raises UsageError."""
    has_procfile = os.path.exists(PROCFILE)
    if words:
        if is_command():
            return False
        name, equals, number = words[0].partition("=")
        if not (equals and re.fullmatch(r"[A-Za-z0-9_-]+", name) and number.isdigit()):
            return has_procfile and re.split(r"[=:,]", words[0], maxsplit=1)[0] in entries_of(PROCFILE)
    if not has_procfile:
        raise usage_error("there is nothing to run: give -- COMMAND or --procfile FILE (this folder has no Procfile)")
    return True


def explained(error: CannotRun, words: Sequence[str]) -> CannotRun:
    """Return *error* with what could be meant by *words*, which are perhaps no command."""
    if error.exit_code != NOT_FOUND or is_command():
        return error
    word, rest = words[0], words[1:]
    if word in _COMMANDS:
        return CannotRun(f"{error.message}: {_COMMANDS[word](rest)}", NOT_FOUND)
    if not os.path.exists(PROCFILE):
        return CannotRun(f"{error.message}, and this folder has no Procfile", NOT_FOUND)
    names = entries_of(PROCFILE)
    return CannotRun(f"{error.message} (the Procfile has {', '.join(names)}){nearest(word, names)}", NOT_FOUND)


def _start(rest: Sequence[str]) -> str:
    return f"write `{shlex.join(['mpsr', 'spawn', *rest])}`"


def _run(rest: Sequence[str]) -> str:
    own = ["-e", ".env"] if os.path.exists(".env") else []
    return f"write `{shlex.join(['mpsr', 'spawn', *own, '--', *rest])}`"


def _check(rest: Sequence[str]) -> str:
    return "`mpsr spawn --dry-run` checks the Procfile, and prints what would be run"


_COMMANDS: dict[str, Callable[[Sequence[str]], str]] = {
    "start": _start, "run": _run, "check": _check, "export": _check,
}  # fmt: skip
"""Commands of other supervisors."""


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names in the Procfile that begin with *incomplete*; none if it cannot be read."""
    procfile = ctx.params.get("procfile") or PROCFILE
    if procfile == STANDARD_INPUT:
        return []
    try:
        return [name for name in parse_procfile(read_text(procfile)) if name.startswith(incomplete)]
    except (OSError, ValueError):
        return []


def complete_word(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names in the Procfile that begin with *incomplete*; of a command, files."""
    names = [] if ctx.meta.get(_AFTER_DASHES) else complete_name(ctx, param, incomplete)
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]
