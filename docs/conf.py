"""
The site that `make docs` builds: the pages of the repository, where they are, and an API reference from the docstrings.

The source folder is the top of the repository, so that a link means the same here and in the repository. The list of
pages in an `index.md` is the table of contents; a page that none lists is an error, as is every dead link.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "mpsr"
author = copyright = "mpsr contributors"  # noqa: A001  Sphinx reads this name
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**.md",
    "docs/**.rst",
    "docker/README.md",
    "hub/journal/FORMAT.md",
    "tests/benchmarks/README.md",
]
exclude_patterns = [".*", "build", "dist"]
html_theme = "furo"
html_title = "mpsr"
html_copy_source = False
default_role = "code"  # docstrings quote names in single backquotes
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

_LINK = re.compile(r"\]\(([\w./-]+)\.(?:md|rst)\)")
_EXAMPLE = re.compile(r"(?<=\n\n)(?= {4}\S)")


def _add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give an index the pages that it links as its table of contents."""
    if docname == app.config.root_doc or docname.endswith("/index"):
        folder = posixpath.dirname(docname)
        pages = [posixpath.normpath(posixpath.join(folder, link)) for link in _LINK.findall(source[0])]
        listed = "\n".join(f"/{page}" for page in dict.fromkeys(pages))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"


def _mark_examples(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show what is indented in a docstring as code, as its author means it."""
    lines[:] = _EXAMPLE.sub("::\n\n", "\n".join(lines)).split("\n")


def setup(app: Sphinx) -> None:
    app.connect("source-read", _add_contents)
    app.connect("autodoc-process-docstring", _mark_examples)
