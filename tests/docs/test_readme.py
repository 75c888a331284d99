"""README.md is the front door: short, and true before the project is on a package index."""

from tests.docs.pages import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    """It has 150 lines at most; everything else is in docs/."""
    assert len(TEXT.splitlines()) <= 150


def test_it_links_every_page() -> None:
    """Each page right below docs/ can be reached from it, and SECURITY.md."""
    pages = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
    missing = [page for page in [*pages, "SECURITY.md"] if f"]({page})" not in TEXT]
    assert not missing
