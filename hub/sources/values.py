"""
The values in the tables of sources: tags, globs, rules for several lines, places.

Each is a text with a class method `parse`, which reads it, or raises ValueError with the right form
(hub.service.tables).

Not here: the tables (hub.sources.kinds).
"""

from __future__ import annotations

import os
import re
from typing import Self

from hub.address import Address
from hub.paths import AbsolutePath, is_abstract
from hub.wire.frame import TAG_BYTES_MAX


class Tag(str):
    """The tag of messages that do not name their own."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the tag in the text *given*. Raises ValueError if it is empty or too long."""
        if not isinstance(given, str) or not 0 < len(given.encode("utf-8", "replace")) <= TAG_BYTES_MAX:
            raise ValueError(f"not a tag: a text of 1 to {TAG_BYTES_MAX} bytes")
        return cls(given)


class GlobPath(AbsolutePath):
    """A glob of files: ``/var/log/nginx/*.log``."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the glob in the text *given*. Raises ValueError."""
        if isinstance(given, str) and not os.path.isabs(os.path.expanduser(given)):
            raise ValueError(f"not an absolute path: {given!r} (write it like /var/log/nginx/*.log)")
        path = super().parse(given)
        if path.endswith("/"):
            raise ValueError(f"a folder, not files: {given!r} (write it like {path}*.log)")
        return cls(os.path.normpath(path))


class TagTemplate(Tag):
    """A tag with ``{path}``, ``{folder}`` and ``{name}`` for those of a file."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the template in the text *given*. Raises ValueError for an unknown field."""
        template = super().parse(given)
        if (unknown := re.sub(r"\{(?:path|folder|name)\}", "", template)) and re.search("[{}]", unknown):
            raise ValueError(f"not a tag: {given!r} (its fields are {{path}}, {{folder}} and {{name}})")
        return template

    def of(self, path: str) -> bytes:
        """Return the tag of the file at *path*."""
        folder, name = os.path.split(path)
        fields = {
            "path": path.strip("/").replace("/", "."),
            "folder": os.path.basename(folder),
            "name": os.path.splitext(name)[0],
        }
        tag = re.sub(r"\{(path|folder|name)\}", lambda found: fields[found[1]], self)
        return os.fsencode(tag)[:TAG_BYTES_MAX]


_NO_EXPRESSIONS = ("auto", "indent", "traceback", "none", "true", "false")
"""Words that a user may take for settings: as expressions they would join all lines."""


class Multiline(str):
    """Which lines belong together: ``auto``, ``indent``, or what the first line of each message matches."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the setting in *given*. Raises ValueError for an invalid regular expression."""
        if not isinstance(given, str) or not given:
            raise ValueError(f"not auto, indent or a regular expression: {given!r}")
        if given not in ("auto", "indent") and given.lower() in _NO_EXPRESSIONS:
            raise ValueError(f"not auto, indent or a regular expression: {given!r} (for none, leave the key out)")
        try:
            re.compile(given.encode())
        except re.error as error:
            raise ValueError(f"not a regular expression: {given!r} ({error})") from None
        return cls(given)


class Place(AbsolutePath):
    """A path, or an address on a network."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the path or the address in the text *given*. Raises ValueError."""
        try:
            return cls(Address.parse(given))
        except ValueError:
            try:
                return super().parse(given)
            except ValueError:
                form = "write a path like /run/mpsr/http, or an address like 127.0.0.1:8514"
                raise ValueError(f"neither an absolute path nor an address: {given!r} ({form})") from None

    @classmethod
    def of_shell(cls, text: str) -> Self:
        """
        Return the path or the address that *text* means on a command line, where a path may be relative.

        A text that looks like an address, or an abstract name, is not a path: `parse` reports what is wrong with it. A
        file of such a name is ``./name``.
        """
        if "/" not in text and (":" in text or is_abstract(text)):
            return cls(text)
        return super().of_shell(text)
