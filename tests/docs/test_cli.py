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


def test_help_is_read() -> None:
    """The comparison sees options, short ones and opposites too."""
    assert {"-n", "-f", "--follow", "--output"} <= options_of_help("logs")
    assert {"--ack", "--no-ack"} <= options_of_help("bench")
