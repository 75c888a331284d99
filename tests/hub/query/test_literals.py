"""hub.query.literals: the texts without which a regular expression matches nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.query.literals import literals_of


@pytest.mark.parametrize(
    ("pattern", "choices"),
    [
        ("timeout", [["timeout"]]),
        ("timeout|refused", [["timeout", "refused"]]),
        ("request.*finished", [["finished"], ["request"]]),
        ("(ab|cde)+f{2,3}", [["ab", "cde"], ["f"]]),
        (r"^foo\.bar$", [["foo.bar"]]),
        ("(?x) a b # c", [["ab"]]),
        ("a(?=bcd)(?!ef)(?<=gh)", [["a"]]),
        ("a(?i:bc)d", [["a"], ["d"]]),
        ("x?y*[z]|", []),
        ("abc|.", []),
        ("a\ufffdbc", [["bc"], ["a"]]),
        ("[a-z]", []),
        ("", []),
    ],
)
def test_a_match_contains_a_text_of_each_choice(pattern: str, choices: list[list[str]]) -> None:
    """Texts are joined where nothing is between them; what may be missing is no text."""
    assert literals_of(pattern) == (choices, False)


def test_case_is_ignored_where_the_expression_ignores_it() -> None:
    """Then texts are lower case, and only of ASCII: other letters have other bytes in the other case."""
    assert literals_of("(?i)No.*Where") == ([["where"], ["no"]], True)
    assert literals_of("STRAßE", ignore_case=True) == ([["stra"], ["e"]], True)
    assert literals_of("a|B", ignore_case=True).ignore_case


def test_many_alternatives_are_no_choice() -> None:
    """Each of them would be searched."""
    assert literals_of("|".join(f"{letter}1" for letter in "abcdefghijklmnop")).choices != []
    assert literals_of("|".join(f"{letter}1" for letter in "abcdefghijklmnopq")).choices == []


def test_a_tree_of_another_form_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is not documented: without it, or with another form, everything is decoded."""
    assert literals_of("abc").choices == [["abc"]]  # the compiler, which needs the real tree, remembers it from now on
    monkeypatch.setattr(re._parser, "parse", lambda *_: [("LITERAL", "x")])  # type: ignore[attr-defined]
    assert literals_of("abc").choices == []
    monkeypatch.setattr(re._parser, "parse", lambda *_: [("NEW", "x")])  # type: ignore[attr-defined]
    assert literals_of("abc").choices == []
    monkeypatch.delattr(re, "_parser")
    assert literals_of("abc").choices == []


ATOMS = st.sampled_from(["a", "b", "ab", ".", "[ab]", "[^a]", "^", "$", r"\b", r"\w", "é", "K"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({'|'.join(each)})"),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{0,1}", "+?", ""])),
        st.builds("(?{}{})".format, st.sampled_from(["=", "!", "i:", "-i:", "<!", ":"]), inner),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.booleans(), st.text("abABéÉkK\u212a", max_size=6))
def test_what_lacks_a_text_does_not_match(pattern: str, ignore_case: bool, text: str) -> None:
    """For any expression and any text: if it is found, a text of each choice is there."""
    try:
        found = re.compile(pattern, re.IGNORECASE if ignore_case else 0).search(text)
    except re.error:
        return
    if found is not None:
        choices, ignores_case = literals_of(pattern, ignore_case=ignore_case)
        searched = text.lower().replace("\u212a", "k") if ignores_case else text
        assert all(any(each in searched for each in choice) for choice in choices)
