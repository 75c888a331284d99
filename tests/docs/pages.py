"""
The pages of the documentation as programs: their shell and Python blocks run in order, as a reader would paste them.

A page is one session of bash in an empty home folder. A `text` block after a block that runs, under the same heading,
is its standard output. Comments that a reader does not see make exceptions, each with its reason:

    <!-- not run: needs root -->             before a block: it does not run
    <!-- not compared: rates differ -->      before a `text` block: it is not compared
    <!-- any order: two processes print -->  before a `text` block: its lines may come in another order

What differs between two runs (times, process and user ids, durations, temporary folders, the width of columns, the
carets of a traceback) is replaced by a word on both sides.

    python -m tests.docs.pages docs/spawn.md      runs a page, and prints what its blocks print

Not here: the tests (test_snippets.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGE_S = 200.0
"""A page may take that long. The slowest one takes a sixth of it."""
RUNS = ("sh", "python")

_FENCE = re.compile(
    r"^(?:<!-- (?P<exception>not run|not compared|any order): (?P<reason>[^\n]+) -->\n)?"
    r"^(?P<fence>```+)(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=fence)$"
    r"|^(?P<heading>#+ [^\n]*)$",
    re.MULTILINE | re.DOTALL,
)
_MARK = "\x1e"

_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"(?<=[a-z])\[\d+\]"), "[PID]"),
    (re.compile(r"\bpid[= ]\d+"), "pid=PID"),
    (re.compile(r'"pid":\d+'), '"pid":PID'),
    (re.compile(r'"comm":"[^"]*"'), '"comm":"COMM"'),  # empty, if the process has ended before it was looked up
    (re.compile(r'"(uid|gid)":\d+'), r'"\1":ID'),
    (re.compile(r"\bseconds=[\d.]+"), "seconds=S"),
    (re.compile(r"(/[\w.-]+)*/tmp\.\w{10}\b"), "FOLDER"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
    (re.compile(r"^ *[~^]+$\n", re.MULTILINE), ""),
)


@dataclasses.dataclass
class Block:
    """A fenced block: where it is, what it is, what it is an exception from and why, and the output it should have."""

    line: int
    language: str
    text: str
    exception: str = ""
    reason: str = ""
    outputs: list[Block] = dataclasses.field(default_factory=list)

    @property
    def runs(self) -> bool:
        return self.language in RUNS and self.exception != "not run"


def name_of(page: Path) -> str:
    """Return the page's path in the project."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order, `text` blocks joined to the block whose output they are."""
    blocks: list[Block] = []
    source: Block | None = None
    for block in _fences(page.read_text(encoding="utf-8")):
        if block is None:
            source = None
            continue
        blocks.append(block)
        if block.language == "text":
            if source is not None:
                source.outputs.append(block)
        else:
            source = block if block.runs else None
    return blocks


def _fences(text: str) -> Iterator[Block | None]:
    """Yield each block, and None for each heading."""
    for match in _FENCE.finditer(text):
        if match["heading"]:
            yield None
        else:
            line = text.count("\n", 0, match.start("fence")) + 1
            yield Block(line, match["language"], match["text"], match["exception"] or "", match["reason"] or "")


def stable(text: str) -> str:
    """Return *text* without what differs between two runs."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text


def run(blocks: list[Block], folder: Path) -> tuple[dict[int, str], list[str]]:
    """
    Run the blocks that run, in one session below the empty *folder*.

    Return the standard output of each by its line, and what failed: commands that ended with another exit code than 0.
    """
    home, temporary, scripts = (folder / name for name in ("home", "t", "blocks"))
    for each in (home, temporary, scripts):
        each.mkdir(mode=0o700)
    session = ["trap 'echo \"block at line $BLOCK: exit code $?: $BASH_COMMAND\" >&9' ERR"]
    for block in blocks:
        if block.runs:
            script = scripts / f"{block.line}.{block.language}"
            script.write_text(block.text, encoding="utf-8")
            command = "." if block.language == "sh" else "python"
            session += [f"BLOCK={block.line}; printf '{_MARK}%s\\n' $BLOCK", f"{command} {script}"]
    output, errors, failures = (folder / name for name in ("output", "errors", "failures"))
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            ["bash", "-c", "\n".join([f"exec 9>{failures}", *session])],
            cwd=home, env=_environment(home, temporary), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            start_new_session=True,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PAGE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # hubs that the page has left running
        process.wait()
    problems = failures.read_text(encoding="utf-8").splitlines()
    if process.returncode == -signal.SIGKILL:
        problems.append(f"the session did not end within {PAGE_S:.0f} s")
    if problems:
        problems += errors.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    return _by_line(output.read_text(encoding="utf-8", errors="replace")), problems


def _environment(home: Path, temporary: Path) -> dict[str, str]:
    """Return what a reader has after the installation, and nothing that would lead out of *home*."""
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "LANG") if name in os.environ}
    state = home / ".local/state/mpsr"
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "TERM": "dumb",
        # The default of a user, also if root runs this: a page that forgets to choose a folder does no harm.
        "MPSR_SOCKET": str(state / "hub.sock"),
        "MPSR_JOURNAL": str(state / "journal"),
    }


def _by_line(output: str) -> dict[int, str]:
    parts = output.split(_MARK)[1:]
    return {int(line): text for line, _, text in (part.partition("\n") for part in parts)}


def main(page: str) -> None:
    """Run a page and print what its blocks print, for its author."""
    with tempfile.TemporaryDirectory() as folder:
        outputs, problems = run(blocks_of(ROOT / page), Path(folder))
    for line, text in outputs.items():
        print(f"--- block at line {line}\n{text}", end="")
    print(*problems, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
