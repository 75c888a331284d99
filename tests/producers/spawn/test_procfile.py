"""Procfile, .env and formation."""

from __future__ import annotations

import re

import pytest

from producers.spawn.procfile import COUNT_MAX, parse_env, parse_formation, parse_port, parse_procfile, port_of


def test_a_procfile_is_names_and_commands_in_order() -> None:
    """Comments and blank lines are skipped; a command is kept unchanged, with its colons and quotes."""
    text = "# it\n\nweb: python app.py --port $PORT\n  work-er_2:echo 'a: b' # no comment\r\n"
    assert parse_procfile(text) == {"web": "python app.py --port $PORT", "work-er_2": "echo 'a: b' # no comment"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no process"),
        ("web: a\nweb: b", "line 2: web is defined twice"),
        ("web\n", "line 1: 'web'"),
        ("web:\n", "line 1"),
        ("a b: c", "line 1"),
    ],
)
def test_a_procfile_without_a_process_is_an_error(text: str, message: str) -> None:
    """The error names the line."""
    with pytest.raises(ValueError, match=message):
        parse_procfile(text)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("export K=v", "v"),
        (" K = v ", "v"),
        ("K=", ""),
        ("K='a # $b \\n'", "a # $b \\n"),
        ('K="a\\n\\"b\\" # $c"  # it', 'a\n"b" # $c'),
        ("K=a b # it", "a b"),
        ("K=a#b", "a#b"),
        ("K='a'b", "'a'b"),
        ("K=a=b", "a=b"),
        ("K= # it", ""),
        ("K=#a", "#a"),
        ('export\tK = "v"', "v"),
        ("K='a\n\nb=c\n# d'  # it", "a\n\nb=c\n# d"),
        ('K="a\n\\"b\\""', 'a\n"b"'),
        ("K='v'  \r\n\r", "v"),
        ("K=a\u2028b", "a\u2028b"),
        ("K=it's", "it's"),
        ("K=''", ""),
    ],
)
def test_a_variable(line: str, value: str) -> None:
    """Quotes and comments are removed; nothing is expanded."""
    assert parse_env(f"# it\n{line}\n") == {"K": value}
    assert parse_env(f"\ufeffA=b\r\n\r\n{line}") == {"A": "b", "K": value}
    assert parse_env(f"{line}\n\n  # it\nB='c'\n") == {"K": value, "B": "c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\n\nB='x", "line 3: the quote is not closed"),
        ("A='1\n2'\nB=\"x\nC=2\n", "line 3: the quote is not closed"),
        ("A='x\nB='y'\n", "line 1: the quote is not closed"),
        ('A="x\\"\n', "line 1: the quote is not closed"),
        ("A=1\nB=\0", "line 2: there is a NUL character"),
        ("A='1\n2'\nB", "line 3: 'B'"),
        ("=x", "line 1: '=x'"),
    ],
)
def test_a_fault_is_told_with_its_line(text: str, said: str) -> None:
    """An unclosed quote, a NUL and a line that is no variable are errors that give the line."""
    with pytest.raises(ValueError, match=said):
        parse_env(text)


def test_a_procfile_with_a_byte_order_mark() -> None:
    """A byte order mark is skipped; a NUL is an error."""
    assert parse_procfile("\ufeffweb: a\r\n") == {"web": "a"}
    with pytest.raises(ValueError, match="line 1: there is a NUL"):
        parse_procfile("web: a\0")


def test_a_line_of_env_that_is_no_variable_is_an_error() -> None:
    """The error names the line."""
    with pytest.raises(ValueError, match=r"line 2: '1A=b'"):
        parse_env("A=b\n1A=b\n")


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        ([], {"web": 1, "worker": 1}),
        (["worker=4"], {"web": 1, "worker": 4}),
        (["web=0"], {"web": 0, "worker": 1}),
        (["worker"], {"web": 0, "worker": 1}),
        (["web", "worker=2"], {"web": 1, "worker": 2}),
    ],
)
def test_a_formation(words: list[str], counts: dict[str, int]) -> None:
    """NAME=N sets the number; with a NAME alone, only the given names run."""
    assert parse_formation(words, ["web", "worker"]) == counts


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("x=1", "'x' is not in the Procfile (there are: web, worker)"),
        ("wbe", "'wbe' is not in the Procfile (there are: web, worker). Did you mean 'web'?"),
        ("web:2", "'web:2': write web=2"),
        ("web:", "'web:': write web=2"),
        ("web,worker", "'web,worker': write web worker, with spaces"),
        ("web=2,worker=1", "'web=2,worker=1': write web=2 worker=1, with spaces"),
        *(
            (f"web={number}", f"'web={number}': the part after = must be a number, as in web=2 (10000 at most)")
            for number in ("", "-1", "x", COUNT_MAX + 1, "9" * 5000, "\u00b2")
        ),
    ],
)
def test_a_formation_that_cannot_be(word: str, said: str) -> None:
    """The error says how to write it."""
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        parse_formation([word], ["web", "worker"])


def test_ports_are_as_foreman_gives_them() -> None:
    """PORT rises by 100 for each name and by 1 for each child, from $PORT or 5000; there is none after 65535."""
    assert [port_of(0, 1, 5000), port_of(1, 2, 5000), port_of(2, 1, 80), port_of(1, 2, 65434)] == [
        5000, 5101, 280, 65535,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="its PORT would be 65536, but the highest is 65535"):
        port_of(1, 2, 65435)


def test_the_first_port() -> None:
    """It is a number from 1 to 65535; nothing means 5000."""
    assert [parse_port(text) for text in ("", "1", "080", "65535")] == [5000, 1, 80, 65535]
    for text in ("0", "65536", "abc", "-1", "80 ", "\u00b2", "9" * 5000):
        with pytest.raises(ValueError, match=rf"^PORT='{text}' \(write a number from 1 to 65535\)$"):
            parse_port(text)
