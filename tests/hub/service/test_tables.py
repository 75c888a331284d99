"""
hub.service.tables and hub.service.misfit with tables that the hub does not have: lists of tables of several types.

What the hub's own keys do is in test_settings.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from hub.errors import ConfigError
from hub.paths import AbsolutePath
from hub.quantities import Duration, Size
from hub.service.settings import load_table
from hub.service.tables import Live, Table, fields_of, read_table, written


class Tail(Table, frozen=True, tag="tail"):
    path: AbsolutePath
    start: Literal["begin", "end"] = "end"
    is_open: bool = False
    buffer: Size = Size(1 << 20)


class Port(Table, frozen=True, tag="port"):
    number: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    names: tuple[str, ...] = ()
    share: float = 0.5


class Limits(Table, frozen=True):
    rate: Annotated[int, msgspec.Meta(ge=1)] = 1
    burst: Annotated[int, msgspec.Meta(le=9)] = 1
    labels: dict[str, int] = {}  # noqa: RUF012  msgspec copies it

    def __post_init__(self) -> None:
        if self.burst < self.rate:
            raise ValueError(f"burst is less than rate, {self.rate}")


class File(Table, frozen=True):
    """A whole file, with keys of the hub and others."""

    journal_age: Live[Duration | None] = None
    socket: AbsolutePath = AbsolutePath("/s")
    sources: Live[tuple[Tail | Port, ...]] = ()
    limits: Limits = Limits()
    count: int = 0
    ratio: float = 1

    def __post_init__(self) -> None:
        if self.count > len(self.sources):
            raise ValueError(f"count is more than the {len(self.sources)} sources")


def test_tables_are_structs(tmp_path: Path) -> None:
    """Tables of a list are structs by their type, with typed values; what is left out has its default."""
    path = tmp_path / "file.toml"
    path.write_text("""
        journal_age = "7d"
        [[sources]]
        type = "tail"
        path = "/a"
        buffer = "2MiB"
        [[sources]]
        type = "port"
        number = 514
        names = ["x"]
        [limits]
        burst = 2
    """)
    found, values = load_table(File, {"socket": "s"}, {"MPSR_JOURNAL_AGE": "1d"}, str(path))
    assert found.sources == (Tail(path=AbsolutePath("/a"), buffer=Size(2 << 20)), Port(number=514, names=("x",)))
    assert (found.limits, found.journal_age, found.socket) == (Limits(burst=2), 86_400.0, str(Path("s").absolute()))
    origins = {name: value.origin for name, value in values.items()}
    assert origins == {"journal_age": "MPSR_JOURNAL_AGE", "socket": "--socket", "sources": str(path),
                       "limits": str(path), "count": "default", "ratio": "default"}  # fmt: skip


TAIL, PORT = '[[sources]]\ntype = "tail"\npath = "/a"\n', '[[sources]]\ntype = "port"\nnumber = 1\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TAIL + PORT + '[[sources]]\ntype="tail"\npath = "b"', "sources[2].path = \"b\": not an absolute path: 'b'"),
        (TAIL + "pth = 1", "there is no key sources[0].pth (it is 1; did you mean sources[0].path?)"),
        (TAIL + "zzz = 1", "there is no key sources[0].zzz (it is 1; the keys are type, path, start, is_open, buffer)"),
        (TAIL + PORT + "path = '/a'", 'there is no key sources[1].path (it is "/a"; the keys are type, number,'),
        (TAIL + '[[sources]]\ntype = "tail"', "sources[1].path is missing"),
        (TAIL + '[[sources]]\npath = "/a"', "sources[1].type is missing (one of tail, port)"),
        ('[[sources]]\ntype = "tial"', 'sources[0].type = "tial": not one of tail, port'),
        ("[[sources]]\ntype = 3", "sources[0].type = 3: not one of tail, port"),
        (TAIL + 'start = "middle"', 'sources[0].start = "middle": not one of begin, end'),
        (TAIL + "start = 3", "sources[0].start = 3: not one of begin, end"),
        (TAIL + 'is_open = "perhaps"', 'sources[0].is_open = "perhaps": not true or false'),
        (TAIL + "buffer = 1.5", "sources[0].buffer = 1.5: not a size: 1.5 (write it like 64MiB"),
        (TAIL + "buffer = true", "sources[0].buffer = true: not a size: True (write it like 64MiB"),
        (PORT + 'names = "x"', 'sources[0].names = "x": not a list (write it in brackets: ["x"])'),
        (PORT + "names = ['x', 5]", 'sources[0].names[1] = 5: not a text (write it in quotation marks: "5")'),
        (PORT.replace("1", "70000"), "sources[0].number = 70000: not a whole number from 1 to 65535"),
        (PORT + 'share = "all"', 'sources[0].share = "all": not a number'),
        ('[sources]\ntype = "tail"', "sources: not a list of tables (write the heading of each as [[sources]])"),
        ("sources = [3]", "sources[0] = 3: not a table"),
        ("sources = 3", "sources = 3: not a list of tables (write the heading of each as [[sources]])"),
        ("limits = 3", "limits = 3: not a table"),
        ("[limits]\nrate = 0", "limits.rate = 0: not a whole number of at least 1"),
        ("[limits]\nburst = 10", "limits.burst = 10: not a whole number up to 9"),
        ("[limits]\nrat = 5", "there is no key limits.rat (it is 5; did you mean limits.rate?)"),
        ("[limits]\nrate = 5", "limits: burst is less than rate, 5"),
        ("[limits]\nlabels = { a = 'x' }", "limits.labels[...]: Expected `int`, got `str`"),
        ('count = "x"', 'count = "x": not a whole number'),
        ("source = 1", "there is no key source (it is 1; did you mean sources?)"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    """One line names the file, the place, the value and what is allowed."""
    path = tmp_path / "file.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_table(File, {}, {}, str(path))
    assert str(raised.value).startswith(f"{path}: {said}")
    assert "\n" not in str(raised.value)


def test_keys_that_do_not_fit_together(tmp_path: Path) -> None:
    """They may come from several origins, so the error names none."""
    path = tmp_path / "file.toml"
    path.write_text("count = 1")
    with pytest.raises(ConfigError) as raised:
        load_table(File, {}, {}, str(path))
    assert str(raised.value) == "configuration: count is more than the 0 sources"


def test_a_field_knows_what_a_reload_can_change() -> None:
    """Live, list and optional are read from the type, the default from the struct."""
    fields = fields_of(File)
    assert [name for name, field in fields.items() if field.is_live] == ["journal_age", "sources"]
    assert [name for name, field in fields.items() if field.is_list] == ["sources"]
    assert [name for name, field in fields.items() if field.is_optional] == ["journal_age"]
    assert [fields["limits"].make_default(), fields["count"].make_default()] == [Limits(), 0]


def test_values_are_written_as_they_are_read() -> None:
    """`written` is the inverse of reading."""
    assert written((Size(1 << 20), Duration(90))) == ["1MiB", "90s"]
    assert [written(None), written(5), written("x")] == ["", 5, "x"]
    assert read_table({"journal_age": written(Duration(90))}, File).journal_age == Duration(90)
