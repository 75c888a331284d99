"""CHANGELOG.md: nothing is told twice, as a merge of two branches may leave it."""

from collections import Counter

from tests.docs.pages import ROOT

BEGIN_CHARS = 60
"""Two entries of one section that begin alike for this long are one, in two versions."""


def told_twice(text: str) -> list[str]:
    """Return how the entries begin that stand twice in one section of *text*."""
    found: list[str] = []
    for section in text.split("\n## ")[1:]:
        entries: list[str] = []
        for line in section.splitlines():
            if line.startswith("- "):
                entries.append(line[2:].strip())
            elif line.startswith("  ") and entries:
                entries[-1] += f" {line.strip()}"
        found += [begin for begin, count in Counter(entry[:BEGIN_CHARS] for entry in entries).items() if count > 1]
    return found


def test_nothing_stands_twice() -> None:
    """No two entries of a section begin alike, wherever their lines are broken."""
    assert told_twice((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == []
    entry = "One thing that a user notices, in words of which a line holds many"
    broken = entry.replace("in words", "in\n  words")
    assert told_twice(f"# C\n\n## [1]\n\n- {entry}\n- Another\n- {broken}\n") == [entry[:BEGIN_CHARS]]
    assert told_twice(f"# C\n\n## [2]\n\n- {entry}\n\n## [1]\n\n- {entry}\n") == []
