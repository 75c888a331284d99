"""
The paths of a file sink: a template with ``{tag}``, ``{date}`` and ``{hour}``, such as ``/srv/logs/{tag}/{date}.log``.

Its *base* is the folder before the first field. It exists before the sink, and belongs to the operator; folders below
it are made as they are needed.

Always true:
- every path is inside the base, whatever the tag is: a tag becomes a part of one name. Bytes except ASCII letters,
  digits, ``-``, ``_`` and ``.`` are written as ``%2F``, and so is a dot at the beginning;
- two tags never have the same path. A long tag is cut, and a hash of all of it is added;
- date and hour are those of the time of receipt, in UTC, which never goes back.

Not here: opening the files (hub.sinks.file).
"""

from __future__ import annotations

import hashlib
import os
import re
import time

NS = 1_000_000_000
NAME_BYTES_MAX = 160
"""
Maximum bytes of a name with its fields. The additions of rotation and compression fit into the 255 bytes of a file
system.
"""
PATH_BYTES_MAX = 512
_TAG_MAX, _TAG_SHOWN = 96, 63
_FIELDS = re.compile(r"\{(\w*)\}")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]|\A\.")
_PATTERNS = {"tag": r"[A-Za-z0-9_.%-]+", "date": r"\d{4}-\d\d-\d\d", "hour": r"\d\d"}
_STAMP = r"\.\d{8}T\d{6}Z(?:-\d+)?"
OTHERS = "%others"
"""The name for tags above the limit of files. No tag is written like this."""


def as_name(tag: bytes) -> str:
    """Return *tag* as a part of a file name."""
    name = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], tag).decode() or "%"
    if len(name) <= _TAG_MAX:
        return name
    return f"{name[:_TAG_SHOWN]}%{hashlib.blake2b(tag, digest_size=16).hexdigest()}"


class PathTemplate:
    """The template *text*, an absolute path. Raises ValueError for one that cannot be used."""

    def __init__(self, text: str) -> None:
        self.text = os.path.normpath(text)
        if text.endswith("/"):
            raise ValueError(f"a folder, not a file: {text!r} (write it like {text}{{tag}}.log)")
        if ".." in text.split("/"):
            raise ValueError(f"{text!r} contains `..` (write the path that it leads to)")
        self.fields: list[str] = _FIELDS.findall(self.text)
        if set(self.fields) - _PATTERNS.keys() or re.search(r"[{}]", _FIELDS.sub("", self.text)):
            raise ValueError(f"not a path: {text!r} (its fields are {{tag}}, {{date}} and {{hour}})")
        if self.text.endswith(("{tag}", ".zst", ".gz", ".tmp")):
            raise ValueError(f"not a path: {text!r} (a name ends with neither {{tag}} nor .zst, .gz or .tmp: add .log)")
        if "hour" in self.fields and "date" not in self.fields:
            raise ValueError(
                f"{text!r} has {{hour}} and no {{date}}: each day would go on in the files of the last one"
            )
        longest = self._filled(tag="t" * _TAG_MAX, date="2026-01-01", hour="00")
        if len(longest.encode()) > PATH_BYTES_MAX:
            raise ValueError(f"too long: {text!r} ({PATH_BYTES_MAX} bytes at most, with the longest tag)")
        if any(len(part.encode()) > NAME_BYTES_MAX for part in longest.split("/")):
            raise ValueError(f"too long: {text!r} (a name of {NAME_BYTES_MAX} bytes at most, with the longest tag)")
        parts = self.text.split("/")
        first = next((at for at, part in enumerate(parts) if "{" in part), len(parts) - 1)
        self.base = "/".join(parts[:first]) or "/"
        self.folders: list[re.Pattern[str]] = [re.compile(_pattern(part), re.ASCII) for part in parts[first:-1]]
        """Expressions for the names of the folders between the base and a file, from the base down."""
        self.name = re.compile(rf"(?P<live>{_pattern(parts[-1])})(?P<stamp>{_STAMP})?(?P<packed>\.zst|\.gz)?", re.ASCII)
        """Expressions for the names of files: of those that are written to, and of those that are finished."""
        self._moment = re.compile(_pattern(self.text, is_named=True) + rf"(?:{_STAMP}|\.zst|\.gz)*", re.ASCII)
        self._tag_at = next((at for at, part in enumerate(parts) if "{tag}" in part), None)
        tagged = parts[-1] if self._tag_at is None else parts[self._tag_at]
        is_file = self._tag_at is None or self._tag_at == len(parts) - 1
        suffix = rf"(?P<rest>(?:{_STAMP})?(?:\.zst|\.gz)?)" if is_file else "(?P<rest>)"
        self._tagged = re.compile(_pattern(tagged, is_named=True) + suffix, re.ASCII)

    def path(self, tag: bytes | str, received: int) -> str:
        """Return the path for a tag, or for a name that `as_name` has made of one, at a time of receipt."""
        name = tag if isinstance(tag, str) else as_name(tag)
        date, hour = day_and_hour(received)
        return self._filled(tag=name, date=date, hour=hour)

    def moment_of(self, path: str) -> tuple[str, str] | None:
        """Return date and hour in *path*, as far as it has them; None if the template has no date."""
        found = self._moment.fullmatch(path) if "date" in self.fields else None
        return None if found is None else (found["date"], found["hour"] if "hour" in self.fields else "")

    def moment_at(self, received: int) -> tuple[str, str]:
        """Return date and hour of a time of receipt, as far as the template has them."""
        date, hour = day_and_hour(received)
        return date if "date" in self.fields else "", hour if "hour" in self.fields else ""

    def folder_of_tags(self, path: str) -> str | None:
        """Return the folder in which *path* has the part with the tag; None if the template has no tag."""
        return None if self._tag_at is None else "/".join(path.split("/")[: self._tag_at]) or "/"

    def tag_in(self, folder: str, path: str) -> str | None:
        """
        Return the tag in the name that *path* has in *folder*, as `as_name` has made it; the name, if it is not of the
        template. None: it is that of a file that was rotated or compressed.
        """
        name = path.removeprefix(folder).lstrip("/").partition("/")[0]
        found = self._tagged.fullmatch(name)
        if found is None:
            return name
        return None if found["rest"] else found["tag"]

    def meets(self, other: PathTemplate) -> str | None:
        """Return a path that both make, None if none was found: fields are tried against the text of the other."""
        for one, two in ((self, other), (other, self)):
            path = one.path(b"app", 0)
            if two._moment.fullmatch(path):
                return path
        return None

    def _filled(self, **values: str) -> str:
        return _FIELDS.sub(lambda found: values[found[1]], self.text)


def _pattern(text: str, *, is_named: bool = False) -> str:
    """
    Return an expression for the names that *text* can become. *is_named*: the first of each field is a named group.
    """
    shown = []
    named: set[str] = set()
    for at, part in enumerate(_FIELDS.split(text)):  # text and names of fields by turns
        if at % 2 == 0:
            shown.append(re.escape(part))
        elif is_named and part in named:
            shown.append(f"(?P={part})")
        else:
            shown.append(f"(?P<{part}>{_PATTERNS[part]})" if is_named else f"(?:{_PATTERNS[part]})")
            named.add(part)
    return "".join(shown)


def day_and_hour(received: int) -> tuple[str, str]:
    """Return date and hour of a time in nanoseconds since the epoch, in UTC."""
    moment = time.gmtime(received // NS)
    return time.strftime("%Y-%m-%d", moment), time.strftime("%H", moment)
