"""
The children of `mpsr spawn`, from arguments, a Procfile and files of variables.

Always true: a file or command that cannot be read, found or parsed is a usage error that names it, raised before
anything is started.

Not here: the format of these files (producers.spawn.procfile), running (hub.cli.spawn).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence

from hub.cli.options import usage_error
from hub.paths import SOCKET_VARIABLE
from producers.spawn.procfile import parse_env, parse_formation, parse_procfile, port_of
from producers.spawn.supervisor import Spec

CHILDREN_MAX = 10_000


def specs_of_procfile(procfile: str, words: Sequence[str], env_files: Sequence[str], socket: str) -> list[Spec]:
    """
    Return the children of a Procfile, with the number of processes in *words*.

    They run through the shell in the Procfile's folder.
    """
    folder = os.path.dirname(os.path.abspath(procfile))
    beside = os.path.join(folder, ".env")
    given = _environment(env_files or ([beside] if os.path.exists(beside) else []))
    commands = _parsed(procfile, parse_procfile)
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
            {**_own_variables(given, socket, name, index), "PORT": port_of(position, index, given)},
            folder,
        )
        for position, name in enumerate(commands)
        for index in range(1, counts[name] + 1)
    ]


def specs_of_command(
    words: Sequence[str], tag: str | None, count: int, env_files: Sequence[str], socket: str
) -> list[Spec]:
    """Return *count* children that run the command *words*."""
    given = _environment(env_files)
    if shutil.which(words[0], path=given.get("PATH")) is None:
        raise usage_error(f"command not found: {words[0]!r}")
    name = tag or re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(words[0])).strip("-") or "child"
    return [
        Spec(f"{name}.{index}", tuple(words), _own_variables(given, socket, name, index))
        for index in range(1, count + 1)
    ]


def _own_variables(given: Mapping[str, str], socket: str, name: str, index: int) -> dict[str, str]:
    own = {SOCKET_VARIABLE: socket, "MPSR_TAG": f"{name}.{index}", "MPSR_INDEX": str(index)}
    return {"PYTHONUNBUFFERED": "1", **given, **own}


def _environment(files: Sequence[str]) -> dict[str, str]:
    environ = dict(os.environ)
    for file in files:
        environ.update(_parsed(file, parse_env))
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
