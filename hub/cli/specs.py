"""
The children of `mpsr spawn`, from arguments, a Procfile and files of variables.

Always true: a file that cannot be read or parsed is a usage error that names it, and a command that cannot be run an
error with the exit code of a shell (127 if it is not found, else 126); both are raised before anything is started.

Not here: the format of these files (producers.spawn.procfile), running (hub.cli.spawn).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from hub.cli.options import usage_error
from hub.paths import SOCKET_VARIABLE
from producers.spawn.procfile import parse_env, parse_formation, parse_procfile, port_of
from producers.spawn.supervisor import Spec

CHILDREN_MAX = 10_000
NOT_RUNNABLE, NOT_FOUND = 126, 127


class CannotRun(click.ClickException):
    """The command cannot be run."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class, and reads it of the error

    def show(self, file: Any = None) -> None:
        click.echo(f"mpsr: {self.message}", file=file)


def entries_of(procfile: str) -> list[str]:
    """Return the names in *procfile*; none if there is no such file."""
    return list(_parsed(procfile, parse_procfile)) if os.path.exists(procfile) else []


def specs_of_procfile(
    procfile: str, words: Sequence[str], env_files: Sequence[str], socket: str, port: int | None
) -> list[Spec]:
    """
    Return the children of a Procfile, with the number of processes in *words*.

    They run through the shell in the Procfile's folder.
    """
    folder = os.path.dirname(os.path.abspath(procfile))
    beside = os.path.join(folder, ".env")
    given = _environment(env_files or ([beside] if os.path.exists(beside) else []))
    commands = _parsed(procfile, parse_procfile)
    ports = given if port is None else {"PORT": str(port)}
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
            {**_own_variables(given, socket, name, index), "PORT": port_of(position, index, ports)},
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
    _check_runnable(words[0], given.get("PATH"))
    name = tag or re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(words[0])).strip("-") or "child"
    specs = []
    for index in range(1, count + 1):
        own = {} if port is None else {"PORT": port_of(0, index, {"PORT": str(port)})}
        specs.append(Spec(f"{name}.{index}", tuple(words), {**_own_variables(given, socket, name, index), **own}))
    return specs


def _check_runnable(command: str, path: str | None) -> None:
    if shutil.which(command, path=path) is not None:
        return
    if os.path.isdir(command):
        raise CannotRun(f"cannot run {command!r}: it is a folder", NOT_RUNNABLE)
    if os.sep in command and os.path.exists(command):
        raise CannotRun(f"cannot run {command!r}: it is not executable (chmod +x {command})", NOT_RUNNABLE)
    names = entries_of("Procfile")
    also = f" (the Procfile has {', '.join(names)})" if names else ""
    raise CannotRun(f"command not found: {command!r}{also}", NOT_FOUND)


def _own_variables(given: Mapping[str, str], socket: str, name: str, index: int) -> dict[str, str]:
    own = {SOCKET_VARIABLE: socket, "MPSR_TAG": f"{name}.{index}", "MPSR_INDEX": str(index)}
    return {"PYTHONUNBUFFERED": "1", **given, **own}


def _environment(files: Sequence[str]) -> dict[str, str]:
    environ = dict(os.environ)
    for file in files:
        several = [file] if os.path.exists(file) else file.split(",")  # honcho's -e a,b
        for one in several:
            environ.update(_parsed(one, parse_env))
    return environ


def _parsed(file: str, parse: Callable[[str], dict[str, str]]) -> dict[str, str]:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            return parse(lines.read())
    except OSError as error:
        raise usage_error(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise usage_error(f"{file}: {error}") from None


def with_stdin(specs: list[Spec], name: str | None) -> list[Spec]:
    """Return *specs*; the child *name* (NAME.N, or NAME for NAME.1) gets our standard input."""
    if name is None:
        return specs
    wanted = name if any(spec.name == name for spec in specs) else f"{name}.1"
    if all(spec.name != wanted for spec in specs):
        raise usage_error(f"--stdin {name}: no such child (there are {', '.join(spec.name for spec in specs[:10])})")
    return [spec._replace(stdin=0) if spec.name == wanted else spec for spec in specs]
