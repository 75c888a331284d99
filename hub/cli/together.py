"""
Options of `mpsr logs` that contradict each other, or have no effect together: each is a usage error that says why.

Always true: an option counts only if it was given, not if it has its default value.
"""

from __future__ import annotations

import itertools

import click

from hub.cli.options import usage_error

_TOGETHER = (
    (("-f",), ("-r", "--count", "--by", "--histogram", "--until"), "{0} does not end, so {1} cannot be used with it"),
    (("--count",), ("--by", "--histogram"), "{0} and {1} show different numbers: give one of them"),
    (("--by",), ("--histogram",), "{0} and {1} show different numbers: give one of them"),
    (
        ("--count", "--by", "--histogram"),
        ("-C", "--collapse", "--cursor-file"),
        "{0} shows numbers and no lines, so {1} cannot be used with it",
    ),
    (("--by", "--histogram"), ("-r", "--fields"), "{0} shows numbers and no lines, so {1} cannot be used with it"),
    (("-r",), ("-C",), "{0} shows the newest first, and {1} what came before and after: give one of them"),
    (("-r",), ("--cursor-file",), "{1} goes on after the newest message, which {0} shows first: give one of them"),
    (("--after",), ("--cursor-file",), "{0} and {1} both say where to begin: give one of them"),
    (("--collapse",), ("-C",), "{0} and {1} cannot be used together"),
    (("--collapse",), ("-o json",), "{0} is for people, and {1} for programs: `| uniq -c` counts lines"),
    (("--socket",), ("-C",), "{1} needs the journal's files, which {0} does not read"),
    (("--socket",), ("--journal",), "{1} reads files and {0} asks a hub: give one of them"),
)
"""Options that contradict each other: each of the first with each of the second, and why."""


def check_together(output: str | None) -> None:
    """Raise a usage error for options that contradict each other, or that have no effect together."""
    ctx = click.get_current_context()
    command_line = click.core.ParameterSource.COMMANDLINE
    given = {param for param in ctx.params if ctx.get_parameter_source(param) is command_line}
    names = {"-f": "follow", "-r": "reverse", "--count": "only_count", "-o json": "output"}
    around = given & {"before", "behind", "context"}

    def is_given(option: str) -> bool:
        if option == "-C":
            return bool(around)
        if option == "-o json" and output != "json":
            return False
        return names.get(option, option.lstrip("-").replace("-", "_")) in given

    if ctx.params["socket"] == "":
        raise usage_error("--socket: the path is empty (leave the option out for the default)")
    for first, second, reason in _TOGETHER:
        for one, other in itertools.product(filter(is_given, first), filter(is_given, second)):
            raise usage_error(reason.format(one, other))
