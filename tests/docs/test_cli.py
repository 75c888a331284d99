"""docs/cli.md against the commands themselves."""

from __future__ import annotations

import re

import click
import pytest

from hub.cli import cli
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
SECTIONS = {
    match["name"]: match["body"]
    for match in re.finditer(r"^## `mpsr (?P<name>[a-z]+)`\n(?P<body>.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
COMMANDS = cli.list_commands(click.Context(cli))
EVERYWHERE = {"-h", "--help"}


def options_of_help(name: str) -> set[str]:
    """Return the options that `mpsr NAME --help` lists."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    text = command.get_help(click.Context(command, info_name=name))
    _, _, options = text.partition("\nOptions:\n")
    listed = re.findall(r"^  (-[^ ,]*(?:(?:, | / )-[^ ,]*)*)", options, re.MULTILINE)
    return {option for row in listed for option in re.split(r", | / ", row)} - EVERYWHERE


def options_of_page(name: str) -> set[str]:
    """Return the options in the first column of the table in a command's section."""
    rows = re.findall(r"^\| (`-.*?) \|", SECTIONS[name], re.MULTILINE)
    return {option for row in rows for option in re.findall(r"(?<=`)--?[a-zA-Z][a-z-]*", row)}


def test_every_command_has_a_section() -> None:
    """The page has a section for each command, and none for another."""
    assert sorted(SECTIONS) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_there(name: str) -> None:
    """The table of a command lists the options of its --help, all of them and no other."""
    assert options_of_page(name) == options_of_help(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_values_and_defaults_are_the_same(name: str) -> None:
    """The page gives the value of each option as --help does, and the default that click shows or its text names."""
    problems = []
    for param in command_of(name).params:
        if not isinstance(param, click.Option) or param.hidden:
            continue
        row = next(row for row in rows_of_page(name) if f"`{param.opts[0]}" in row[0])
        if not param.is_flag and f"`{param.opts[-1]} {metavar_of(param)}`" not in row[0]:
            problems.append(f"{param.opts[-1]} takes {metavar_of(param)}: {row[0]}")
        shown = default_of(param)
        if shown and not re.search(rf"\({re.escape(shown)}|{re.escape(shown)} \(default\)", row[1].replace("`", "")):
            problems.append(f"{param.opts[-1]} has the default {shown}: {row[1]}")
    assert not problems


def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def rows_of_page(name: str) -> list[tuple[str, str]]:
    """Return the rows of the table in a command's section: option and effect."""
    return re.findall(r"^\| (`-.*?) \| (.*) \|$", SECTIONS[name], re.MULTILINE)


def metavar_of(option: click.Option) -> str:
    """Return the value of an option as the page writes it: a choice without brackets, with escaped bars."""
    return option.make_metavar(click.Context(cli)).strip("[]").replace("|", "\\|")


def default_of(option: click.Option) -> str:
    """Return the default of an option as --help shows it, except for places that the page explains at its head."""
    if option.name in ("socket", "journal") and option.callback is not None:
        return ""
    named = re.search(r"\[default: (.*?)\]", option.help or "")
    if named:
        return named[1]
    return str(option.default) if option.show_default and not option.is_flag else ""


def test_every_command_shows_an_example() -> None:
    """--help of each command, and of mpsr itself, has an example that begins with the command."""
    for name in COMMANDS:
        help_ = command_of(name).get_help(click.Context(command_of(name), info_name=name))
        examples = re.search(r"\n  Examples?:\n((?:    .*\n)+)", help_)
        assert examples, name
        assert re.search(rf"^    .*\bmpsr {name}\b", examples[1], re.MULTILINE), name
    assert "  Example:\n    mpsr hub" in cli.get_help(click.Context(cli, info_name="mpsr"))


def test_every_command_has_a_short_description() -> None:
    """The first sentence of each command fits into one line of the list of `mpsr --help`."""
    for line in cli.get_help(click.Context(cli, info_name="mpsr")).partition("Commands:\n")[2].splitlines():
        name, _, text = line.strip().partition(" ")
        assert text.strip().endswith("."), line
        assert not text.endswith("..."), line
        assert command_of(name).get_short_help_str(200) == text.strip()


def test_help_is_read() -> None:
    """The comparison sees options, short ones and opposites too."""
    assert {"-n", "-f", "--follow", "--output"} <= options_of_help("logs")
    assert {"--ack", "--no-ack"} <= options_of_help("bench")
