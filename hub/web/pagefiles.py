"""
The files of the page, as they are in the package: read once, and served from memory.

Always true:
- only files of the package are served, by their names there; no path of a request reaches the file system;
- each file is served with a policy under which a browser runs no script and loads nothing from elsewhere, whatever a
  message holds.

Not here: the files themselves (hub/web/page/), which requests are for them (hub.web.pagesite).
Source: Content Security Policy Level 3; RFC 9110, section 8.8.3 (ETag).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import NamedTuple

FOLDER = "page"
INDEX = "index.html"
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain",
    ".md": "text/plain",
}
"""The types of files that are served, by the ends of their names; other files are not."""
BINARY = frozenset(("image/png",))
SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)


class PageFile(NamedTuple):
    """One file: its type with the character set, its tag, and its bytes."""

    kind: str
    etag: str
    data: bytes


@functools.cache
def page_files() -> Mapping[str, PageFile]:
    """Return the files by their paths below the folder of the page, as in ``vendor/lit-html.js``."""
    return dict(_found(importlib.resources.files("hub.web").joinpath(FOLDER), ""))


def _found(folder: Traversable, prefix: str) -> Iterator[tuple[str, PageFile]]:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _found(entry, f"{name}/")
        elif kind := KINDS.get(name[name.rfind(".") :]):
            data = entry.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            yield name, PageFile(kind if kind in BINARY else f"{kind}; charset=utf-8", etag, data)
