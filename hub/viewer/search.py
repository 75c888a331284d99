"""
The language of the search box, which the page and the terminal have in common: text, `tag:`, `level:`, `field=value`.

    pool exhausted tag:web.* -tag:web.debug level:warning status>=500 user="Ann Lee" since:1h

Words without a key are one text, as they stand: `pool exhausted` finds both words with a space between. Small letters
find capital letters too; a text with a capital letter finds exactly that. `/.../` is a regular expression. A minus in
front excludes; several texts can be excluded.

Always true: a search gives the same parameters as on the page; one that the hub could not answer is a ValueError that
says what to write.

Not here: what a filter selects (hub.query.query), the same for the page (hub/web/page/search.js).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hub.quantities import parse_moment

KEYS = ("tag", "level", "since", "until", "comm", "pid", "uid", "unit", "host", "container")
_REGEX = re.compile(r"-?/((?:[^/\\]|\\.)+)/(i?)(?=\s|$)", re.DOTALL)
_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*(?:"|$)|[^\s"])+', re.DOTALL)
_KEYED = re.compile(r"([a-z]+):(.*)", re.DOTALL)
_CONDITION = re.compile(r'([^\s!=<>"/:][^!=<>"]*?)(!=|==|<=|>=|=|<|>)(.*)', re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
ONE_TEXT = (
    "one text to find, or several to leave out: put a regular expression between slashes, as in /refused|reset/, "
    "or exclude by a tag or a field"
)
_OPPOSITE = {"=": "!=", "==": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


class Search(NamedTuple):
    """A search: the *parameters* of the hub's methods, and the *text* it looks for, to be highlighted."""

    parameters: dict[str, Any]
    text: str = ""


class _Text(NamedTuple):
    value: str
    is_regex: bool = False
    is_negated: bool = False
    is_any_case: bool = False

    @property
    def expression(self) -> str:
        return self.value if self.is_regex else re.sub(r"[\\^$.*+?()\[\]{}|]", r"\\\g<0>", self.value)

    @property
    def ignores_case(self) -> bool:
        return self.is_any_case if self.is_regex else self.value == self.value.lower()


def search_of(query: str, now_ns: int, *, utc: bool = False) -> Search:
    """Return what *query* asks for. Times are those of the local zone, or of UTC. Raises ValueError."""
    parameters: dict[str, Any] = {}
    words: list[str] = []
    texts: list[_Text] = []
    for word, regex in _tokens(query):
        is_negated = len(word) > 1 and word.startswith("-")
        rest = word[is_negated:]
        keyed = None if rest.startswith('"') else _KEYED.fullmatch(rest)
        if regex is not None:
            texts.append(_Text(regex[1], is_regex=True, is_negated=is_negated, is_any_case=bool(regex[2])))
        elif keyed is not None and keyed[1] in KEYS:
            _add_key(parameters, keyed[1], _unquoted(keyed[2]), is_negated, lambda text: _moment(text, now_ns, utc=utc))
        elif not rest.startswith('"') and (condition := _CONDITION.fullmatch(rest)):
            operator = _OPPOSITE[condition[2]] if is_negated else condition[2]
            parameters.setdefault("where", []).append(f"{condition[1]}{operator}{_unquoted(condition[3])}")
        elif is_negated:
            texts.append(_Text(_unquoted(rest), is_negated=True))
        else:
            words.append(_unquoted(rest))
    if any(words):
        texts.append(_Text(" ".join(words)))
    if texts:
        _add_texts(parameters, texts)
    is_shown = texts and not texts[0].is_regex and not texts[0].is_negated
    return Search(parameters, texts[0].value if is_shown else "")


def _tokens(query: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Yield the words of *query*, and for a regular expression what it consists of."""
    at = 0
    while at < len(query):
        if query[at].isspace():
            at += 1
            continue
        regex = _REGEX.match(query, at)
        found = regex or _WORD.match(query, at)
        assert found is not None  # any character that is no space begins a word
        yield found[0], regex
        at = found.end()


def _add_key(parameters: dict[str, Any], key: str, value: str, is_negated: bool, moment: Callable[[str], int]) -> None:
    if not value:
        raise ValueError(f"{key}: has no value yet")
    if key == "tag":
        parameters.setdefault("tag", []).append(f"!{value}" if is_negated else value)
        return
    if is_negated:
        raise ValueError(f"-{key}: is not possible; only a tag, a field or a text can be excluded")
    if key in parameters:
        raise ValueError(f"{key}: is there twice")
    if key == "pid":
        if not re.fullmatch(r"[0-9]{1,10}", value):
            raise ValueError("pid: is a number")
        parameters[key] = int(value)
    else:
        parameters[key] = moment(value) if key in ("since", "until") else value


def _add_texts(parameters: dict[str, Any], texts: list[_Text]) -> None:
    """Add the one text to find, or all that are left out: whatever has one of them."""
    is_excluding = all(text.is_negated for text in texts)
    if len(texts) > 1 and not is_excluding:
        raise ValueError(ONE_TEXT)
    is_same = len({text.ignores_case for text in texts}) == 1
    parameters["grep"] = "|".join(
        f"(?i:{text.expression})" if text.ignores_case and not is_same else text.expression for text in texts
    )
    if is_same and texts[0].ignores_case:
        parameters["ignore_case"] = True
    if is_excluding:
        parameters["invert_match"] = True


def _moment(text: str, now_ns: int, *, utc: bool) -> int:
    if utc:
        try:
            return parse_moment(f"{text} UTC", now_ns)
        except ValueError:  # it is a duration, or names its zone
            pass
    return parse_moment(text, now_ns)


def _unquoted(text: str) -> str:
    return _QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), text)


def with_level(query: str, level: str) -> str:
    """Return *query* with this minimum level in the place of another; without any, if *level* is empty."""
    words = [word for word, regex in _tokens(query) if regex is not None or not word.startswith("level:")]
    return " ".join([*words, f"level:{level}"] if level else words)
