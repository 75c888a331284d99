"""hub.cli.hints: what other programs have is answered with what to type here, and nothing that works is."""

from __future__ import annotations

import re

import click
import pytest

from hub.cli import COMMANDS as ALL
from hub.cli import cli, hints
from tests.support import mpsr


def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def options_of(name: str) -> set[str]:
    """Return the options of a command, hidden ones too."""
    params = command_of(name).get_params(click.Context(command_of(name), info_name=name))
    return {option for param in params for option in (*param.opts, *param.secondary_opts)}


def test_what_works_has_no_hint() -> None:
    """No row is about a command or an option that exists, and no name is in two rows."""
    commands = [name for row in hints.COMMANDS for name in row.split()]
    assert not set(commands) & {*ALL, "help", "version"}
    assert len(commands) == len(set(commands))
    for command, rows in hints.OPTIONS.items():
        options = [option for row in rows for option in row.split()]
        assert not set(options) & options_of(command), command
        assert len(options) == len(set(options)), command
    for command in hints.ARGUMENTS:
        assert not any(isinstance(param, click.Argument) for param in command_of(command).params)


def test_what_a_hint_names_exists() -> None:
    """Each command that a hint names exists, and so do the options beside it, or those of its own command."""
    meant = [("", text) for text in hints.COMMANDS.values()]
    meant += [(command, text) for command, rows in hints.OPTIONS.items() for text in rows.values()]
    meant += list(hints.ARGUMENTS.items())
    seen = 0
    for command, text in meant:
        for line in re.findall("mpsr [a-z]+[^`]*", text):
            name, *words = line.split()[1:]
            assert {word for word in words if word.startswith("-")} <= options_of(name), text
            seen += 1
        own = re.sub("`[^`]*`", "", text)
        assert not command or set(re.findall(r"(?<!\S)--?[a-zA-Z][a-z-]*", own)) <= options_of(command), text
    assert seen > 10


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("start", "No such command 'start': `mpsr hub` runs a hub, and `mpsr spawn` runs commands as its producers"),
        ("fsck", "No such command 'fsck': `mpsr verify`"),
        ("log", "No such command 'log': `mpsr logs` shows messages, and `mpsr send` sends them"),
        ("Tail -f", "No such command 'Tail': `mpsr logs -f`"),
        ("logs app.db", "(app.db): filters are options: --tag app.db, --comm app.db, --grep app.db"),
        ("logs tag=nginx x", "--tag nginx"),
        ("logs _PID=1", "--pid 1"),
        ("logs status=500", "--where status=500"),
        ("logs --service=x", "No such option '--service': --unit NAME"),
        ("logs -20", "No such option '-2': -n N, as in -n 20"),
        ("logs --vacuum-size=1G", "No such option '--vacuum-size': the key journal_size of the hub bounds the journal"),
        ("verify dir", "Got unexpected extra argument (dir): the journal is an option: --journal DIR"),
        ("send -f x", "No such option '-f': standard input: mpsr send < FILE"),
        ("hub -d", "No such option '-d': the hub stays in the foreground; `mpsr install` makes it a service"),
        (
            "hub --multiline auto",
            "No such option '--multiline': it is a key of a table [[sources]] in the configuration file",
        ),
        (
            "hub --files a.log b.log",
            "Got unexpected extra argument (b.log): the hub takes options only; a glob is in quotes, as in"
            " --files '*.log'; `mpsr spawn` runs commands",
        ),
        ("config --check", "No such option '--check': `mpsr hub --check`"),
        ("stats -w", "No such option '-w': --watch"),
    ],
)
def test_a_habit_is_answered(line: str, meant: str) -> None:
    """One line on standard error, exit code 2."""
    done = mpsr(*line.split())
    (said,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert said.startswith("mpsr: ")
    assert meant in said


def test_help_and_version_as_commands() -> None:
    """`mpsr help`, `mpsr help COMMAND` and `mpsr version` are what the options are."""
    for line, same in (("help", "--help"), ("help logs", "logs --help"), ("version", "--version")):
        done = mpsr(*line.split())
        assert (done.returncode, done.stdout) == (0, mpsr(*same.split()).stdout)
        assert done.stdout
