"""Every shell and Python block of README and docs runs as it stands, and prints what the page shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks_of, name_of, run, stable

pytestmark = pytest.mark.timeout(240, method="signal")  # one that hangs fails, and the run goes on

_FENCED = re.compile(r"^ *(?:[-*] )?(`{3,})[a-z]*$.*?^ *\1$", re.MULTILINE | re.DOTALL)

RUN = [page for page in PAGES if any(block.runs for block in blocks_of(page))]

# Each exception stands here once more, so that none slips in: page, exception, reason, number of blocks.
EXCEPTIONS = {
    ("docs/cli.md", "not run", "changes the files of your shell", 1),
    ("docs/cli.md", "not run", "it stays until Ctrl-C", 1),
    ("docs/cli.md", "not run", "it stays until q", 1),
    ("docs/top.md", "not run", "it stays until q", 1),
    ("docs/sql.md", "not compared", "nothing is older than an hour", 1),
    ("docs/web.md", "not run", "it stays until Ctrl-C", 1),
    ("docs/cli.md", "not run", "a line of a crontab", 1),
    ("docs/cli.md", "not run", "needs a journal with an incident", 1),
    ("docs/cli.md", "not run", "needs lnav", 1),
    ("README.md", "not run", "make builds the environment that this test runs in", 1),
    ("README.md", "not run", "installs software", 1),
    ("README.md", "any order", "two processes run at once", 1),
    ("docs/cli.md", "any order", "five producers run at once", 1),
    ("docs/clients.md", "not compared", "the list of methods grows", 1),
    ("docs/clients.md", "not compared", "logger may be gone before its name is read", 1),
    ("docs/commands.md", "not compared", "pid and uid", 2),
    ("docs/guarantees.md", "any order", "the senders run at once", 1),
    ("docs/guarantees.md", "not run", "takes eight minutes", 1),
    ("docs/operating.md", "not run", "changes the services of the user", 1),
    ("docs/operating.md", "not run", "needs root and systemd", 1),
    ("docs/operating.md", "not run", "needs Docker", 1),
    ("docs/operating.md", "not run", "needs a second group", 1),
    ("docs/performance.md", "not run", "takes 10 seconds of a whole machine", 1),
    ("docs/sources.md", "not run", "the port may be in use", 2),
    ("docs/spawn.md", "any order", "two processes run at once", 2),
}


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    """The blocks of a page, pasted one after another, end with exit code 0 and print what stands below them."""
    if "socat" in page.read_text(encoding="utf-8") and shutil.which("socat") is None:
        pytest.skip("socat is not installed")
    blocks = blocks_of(page)
    outputs, problems = run(blocks, tmp_path)
    assert not problems, "\n".join(problems)
    for block in blocks:
        compared = [text for text in block.outputs if text.exception != "not compared"]
        if block.runs and compared and len(compared) == len(block.outputs):
            expected = stable("".join(text.text for text in compared)).splitlines()
            printed = stable(outputs.get(block.line, "")).splitlines()
            if any(text.exception == "any order" for text in compared):
                expected, printed = sorted(expected), sorted(printed)
            assert printed == expected, f"{name_of(page)}, block at line {block.line}"


def test_what_does_not_run_is_listed() -> None:
    """Blocks that do not run, or whose output is not compared, are those of the list above, with their reasons."""
    found: dict[tuple[str, str, str], int] = {}
    for page in PAGES:
        for block in blocks_of(page):
            if block.exception:
                key = name_of(page), block.exception, block.reason
                found[key] = found.get(key, 0) + 1
    assert {(*key, count) for key, count in found.items()} == EXCEPTIONS


def test_every_block_says_what_it_is() -> None:
    """A block has a language, and shell is always written as `sh`, so that none escapes by its name."""
    known = {"sh", "python", "text", "toml", "json", "yaml", "ini", "procfile"}
    odd = [
        f"{name_of(page)}:{block.line}: {block.language or 'none'}"
        for page in PAGES
        for block in blocks_of(page)
        if block.language not in known
    ]
    assert not odd


def test_a_fence_stands_alone() -> None:
    """Nothing but the language follows the beginning of a block, and nothing its end: no reflow has joined lines."""
    odd = [
        f"{name_of(page)}:{number}"
        for page in PAGES
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if "```" in line and not re.fullmatch(r"\s*(?:[-*] )?`{3,}[a-z]*", line)
    ]
    assert not odd


def test_a_table_has_whole_rows() -> None:
    """Each row of a table has the cells of its heading, and ends on its line: no reflow has broken it."""
    odd = []
    for page in PAGES:
        cells = 0  # of the table in which the line is; a pipe inside a cell has a backslash before it
        for number, line in enumerate(_FENCED.sub(_blank, page.read_text(encoding="utf-8")).splitlines(), 1):
            found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") and line.endswith("|") else 0
            if (cells and line and found != cells) or (line.startswith("|") and not found):
                odd.append(f"{name_of(page)}:{number}")
            cells = cells or found if line else 0
    assert not odd


def _blank(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")
