"""
The children of `mpsr spawn`, from arguments, a Procfile and files of variables.

Always true: a file that cannot be read or parsed is a usage error that names it, and a command that cannot be run an
error with the exit code of a shell (127 if it is not found, else 126); both are raised before anything is started.

Not here: the format of these files (producers.spawn.procfile), which words are a command (hub.cli.words), running
(hub.cli.spawning).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from hub.cli.options import usage_error
from hub.paths import SOCKET_VARIABLE
from producers.spawn.procfile import parse_env, parse_formation, parse_port, parse_procfile, port_of
from producers.spawn.supervisor import Spec

CHILDREN_MAX = 10_000
NOT_RUNNABLE, NOT_FOUND = 126, 127
STANDARD_INPUT = "-"
"""The name of a Procfile that is read from standard input."""


class _Variables(NamedTuple):
    """The environment of all children."""

    values: dict[str, str]
    port_origin: str
    """Where PORT was set."""


class CannotRun(click.ClickException):
    """The command cannot be run."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class, and reads it of the error

    def show(self, file: Any = None) -> None:
        click.echo(f"mpsr: {self.message}", file=file)


def specs_of_procfile(
    procfile: str, words: Sequence[str], env_files: Sequence[str], socket: str, port: int | None
) -> list[Spec]:
    """
    Return the children of a Procfile, with the number of processes in *words*.

    They run through the shell in the Procfile's folder.
    """
    folder = os.path.dirname(os.path.abspath(procfile))  # of standard input: the current one
    beside = os.path.join(folder, ".env")
    given = _environment(env_files or ([beside] if os.path.exists(beside) else []))
    commands = entries_of(procfile)
    first_port = _first_port(given) if port is None else port
    try:
        counts = parse_formation(words, commands)
    except ValueError as error:
        raise usage_error(str(error)) from None
    if not 0 < sum(counts.values()) <= CHILDREN_MAX:
        raise usage_error(f"{sum(counts.values())} processes to run; the number must be from 1 to {CHILDREN_MAX}")
    shell = shutil.which("sh") or "/bin/sh"
    return [
        Spec(
            f"{name}.{index}",
            (shell, "-c", commands[name]),
            {**_own_variables(given.values, socket, name, index), "PORT": _port(name, position, index, first_port)},
            folder,
        )
        for position, name in enumerate(commands)
        for index in range(1, counts[name] + 1)
    ]


def specs_of_command(
    words: Sequence[str], tag: str | None, count: int, env_files: Sequence[str], socket: str, port: int | None
) -> list[Spec]:
    """Return *count* children that run the command *words*. Raises CannotRun."""
    given = _environment(env_files)
    _check_runnable(words[0], given.values.get("PATH"))
    name = tag or re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(words[0])).strip("-") or "child"
    specs = []
    for index in range(1, count + 1):
        own = {} if port is None else {"PORT": _port(name, 0, index, port)}
        variables = {**_own_variables(given.values, socket, name, index), **own}
        specs.append(Spec(f"{name}.{index}", tuple(words), variables))
    return specs


def entries_of(procfile: str) -> dict[str, str]:
    """Return the names in *procfile*, and their commands."""
    return _parsed(procfile, parse_procfile)


def read_text(file: str) -> str:
    """Return the text of *file*; `STANDARD_INPUT` is not a file. Raises OSError."""
    with open(0 if file == STANDARD_INPUT else file, "rb", closefd=file != STANDARD_INPUT) as source:
        return source.read().decode("utf-8", "surrogateescape")


def _first_port(given: _Variables) -> int:
    try:
        return parse_port(given.values.get("PORT", ""))
    except ValueError as error:
        raise usage_error(f"{given.port_origin}: {error}") from None


def _port(name: str, position: int, index: int, first: int) -> str:
    try:
        return str(port_of(position, index, first))
    except ValueError as error:
        raise usage_error(f"{name}.{index}: {error}") from None


def _check_runnable(command: str, path: str | None) -> None:
    if shutil.which(command, path=path) is not None:
        return
    if os.path.isdir(command):
        raise CannotRun(f"cannot run {command!r}: it is a folder", NOT_RUNNABLE)
    if os.sep in command and os.path.exists(command):
        raise CannotRun(f"cannot run {command!r}: it is not executable (chmod +x {command})", NOT_RUNNABLE)
    raise CannotRun(f"command not found: {command!r}", NOT_FOUND)


def _own_variables(given: Mapping[str, str], socket: str, name: str, index: int) -> dict[str, str]:
    own = {SOCKET_VARIABLE: socket, "MPSR_TAG": f"{name}.{index}", "MPSR_INDEX": str(index)}
    return {"PYTHONUNBUFFERED": "1", **given, **own}


def _environment(files: Sequence[str]) -> _Variables:
    environ, port_origin = dict(os.environ), "the environment"
    for file in files:
        several = [file] if os.path.exists(file) else file.split(",")  # honcho's -e a,b
        for one in several:
            variables = _parsed(one, parse_env)
            environ.update(variables)
            if "PORT" in variables:
                port_origin = one
    return _Variables(environ, port_origin)


def _parsed(file: str, parse: Callable[[str], dict[str, str]]) -> dict[str, str]:
    shown = "standard input" if file == STANDARD_INPUT else file
    try:
        return parse(read_text(file))
    except OSError as error:
        raise usage_error(f"{shown}: {error.strerror}") from None
    except ValueError as error:
        raise usage_error(f"{shown}: {error}") from None


def with_stdin(specs: list[Spec], name: str | None) -> list[Spec]:
    """Return *specs*; the child *name* (NAME.N, or NAME for NAME.1) gets our standard input."""
    if name is None:
        return specs
    wanted = name if any(spec.name == name for spec in specs) else f"{name}.1"
    if all(spec.name != wanted for spec in specs):
        raise usage_error(f"--stdin {name}: no such child (there are {', '.join(spec.name for spec in specs[:10])})")
    return [spec._replace(stdin=0) if spec.name == wanted else spec for spec in specs]
