"""hub.control.typed: parameters against annotations, and functions that cannot be commands."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from hub.control.threads import Threads
from hub.control.typed import parameters_of, typed, values_of
from hub.errors import BadCommand, InvalidParams, UsageError
from hub.intake import Intake
from hub.message import Peer
from hub.wire.jsonrpc import Request
from tests.hub.control.journals import OTHER, world


class Box(msgspec.Struct):
    """A size."""

    width: int
    height: int = 1


class Other(msgspec.Struct):
    """A second one: JSON does not tell which is meant."""


class Uncallable:
    """An object that can be called, with a parameter without a type."""

    def __call__(self, x): ...  # type: ignore[no-untyped-def]


class Doubling:
    """An object that can be called."""

    async def __call__(self, number: int) -> int:
        return 2 * number


def resize(name: str, box: Box, /, peer: Peer) -> None: ...


def scale(
    path: str, width: Annotated[int, msgspec.Meta(ge=1)], mode: Literal["fit", "fill"] = "fit", *, peer: Peer,
    box: Box | None = None, quality: float = 0.5,
) -> list[Any]:  # fmt: skip
    return [path, width, mode, peer.pid, box, quality]


def call(function: Callable[..., Any], params: list[Any] | dict[str, Any] | None, folder: Path) -> Any:
    """Return what the command of *function* returns for *params*, on the loop."""

    async def main() -> Any:
        async with world(folder) as there:
            result = typed(function, "scale").function(Request("scale", params), there.caller(OTHER))
            return await result if inspect.isawaitable(result) else result

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("params", "result"),
    [
        (["a", 5], ["a", 5, "fit", 3, None, 0.5]),
        (["a", 5, "fill"], ["a", 5, "fill", 3, None, 0.5]),
        ({"path": "a", "width": 5}, ["a", 5, "fit", 3, None, 0.5]),
        (
            {"quality": 1, "box": {"width": 2}, "width": 5, "path": "", "mode": "fill"},
            ["", 5, "fill", 3, Box(2), 1.0],
        ),
    ],
)
def test_parameters_by_name_and_by_position(tmp_path: Path, params: Any, result: list[Any]) -> None:
    """Both are validated and converted; defaults are the function's; the peer is filled in."""
    assert call(scale, params, tmp_path) == result


@pytest.mark.parametrize(
    ("params", "param", "words"),
    [
        (None, "path", "scale needs the parameter path"),
        ({"path": "a"}, "width", "scale needs the parameter width"),
        (["a"], "width", "scale needs the parameter width"),
        (["a", "5"], "width", "width: expected int, got str"),
        (["a", True], "width", "width: expected int, got bool"),
        (["a", 0], "width", "width: expected int >= 1"),
        ({"path": "a", "width": 5, "mode": "best"}, "mode", "mode: invalid enum value 'best'"),
        ({"path": "a", "width": 5, "box": {"width": "1"}}, "box", "box: expected int, got str - at $.width"),
        ({"path": "a", "width": 5, "peer": {}}, "peer", "scale has no parameter 'peer' (there are: path, width, mode"),
        ({"path": "a", "width": 5, "x" * 50: 1}, "x" * 32, "scale has no parameter 'xxx"),
        (["a", 5, "fit", 1], None, "scale has 3 parameters by position, not 4"),
    ],
)
def test_wrong_parameters(tmp_path: Path, params: Any, param: str | None, words: str) -> None:
    """The error names the wrong one, and nothing is called."""
    with pytest.raises(InvalidParams) as caught:
        call(scale, params, tmp_path)
    assert caught.value.data == (None if param is None else {"param": param})
    assert str(caught.value).startswith(words)


def test_a_function_without_parameters(tmp_path: Path) -> None:
    """It takes none, in any form, and its error says so."""

    def now() -> int:
        return 1

    nothing: list[Any] = [None, [], {}]
    for params in nothing:
        assert call(now, params, tmp_path) == 1
    with pytest.raises(InvalidParams, match=r"no parameter 'a' \(there are: none\)"):
        call(now, {"a": 1}, tmp_path)


def test_a_caller_is_filled_in(tmp_path: Path) -> None:
    """The hub's own methods get the intake of the caller."""

    def who(caller: Intake) -> int:
        return caller.user.uid

    assert call(who, None, tmp_path) == OTHER.uid


class Methods:
    """A program with a method for a command."""

    def double(self, number: int) -> int:
        return 2 * number


def test_methods_and_partial_functions(tmp_path: Path) -> None:
    """Everything that has a signature can be a command."""
    assert call(Methods().double, [4], tmp_path) == 8
    assert call(Doubling(), [4], tmp_path) == 8
    assert call(functools.partial(Methods.double, Methods()), {"number": 4}, tmp_path) == 8


def untyped(x, y: int = 1) -> None: ...  # type: ignore[no-untyped-def]
def several(*names: str) -> None: ...
def options(**names: str) -> None: ...
def unresolved(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def unspeakable(x: Callable[[], None]) -> None: ...
def deeper(x: list[Box | None], y: list[threading.Lock]) -> None: ...
def torn(x: int | str | Box | Other) -> None: ...
def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        (untyped, "x", "x has no type: annotate it, as in `x: int`"),
        (resize, "x", "name has no name that a caller could give"),
        (several, "x", "names has no name that a caller could give"),
        (options, "x", "names has no name that a caller could give"),
        (unresolved, "x", "its annotations cannot be read (name 'Nowhere' is not defined)"),
        (unspeakable, "x", "JSON cannot hold the type of x"),
        (deeper, "x", "JSON cannot hold the type of y"),
        (torn, "x", "JSON cannot hold the type of x"),
        (Uncallable(), "x", "x has no type"),
        (generator, "x", "to stream, write it as `async def` with `yield`"),
        (5, "x", "not a function"),
        (dict, "x", "its annotations cannot be read"),
        (scale, "", "a name is a text of 1 to 64 characters"),
        (scale, "x" * 65, "a name is a text of 1 to 64 characters"),
        (scale, "\ud800", "a name is a text of 1 to 64 characters"),
    ],
)
def test_functions_that_cannot_be_commands(function: Any, name: str, words: str) -> None:
    """They are refused when they are registered, and the error says why."""
    with pytest.raises(BadCommand) as caught:
        typed(function, name)
    assert isinstance(caught.value, UsageError)
    assert words in str(caught.value)
    assert caught.value.name == name[:64]


def test_where_functions_run(tmp_path: Path) -> None:
    """A plain function runs on a thread, if there are any; a coroutine function and a stream on the loop."""

    def plain() -> str:
        return threading.current_thread().name

    async def coroutine() -> str:
        return threading.current_thread().name

    async def stream() -> AsyncIterator[str]:
        yield threading.current_thread().name

    def returned() -> AsyncIterator[str]:
        return stream()

    async def main() -> None:
        threads = Threads()
        async with world(tmp_path) as there:

            def call(function: Callable[..., Any]) -> Any:
                command = typed(function, "x", threads)
                assert command.streams is (function in (stream, returned))
                return command.function(Request("x"), there.caller())

            async def result(function: Callable[..., Awaitable[str]] | Callable[..., str]) -> object:
                return await call(function)

            assert str(await result(plain)).startswith("mpsr-command")
            assert await result(coroutine) == "MainThread"
            for each in (stream, returned):
                assert [name async for name in call(each)] == ["MainThread"]
        threads.close()

    asyncio.run(main())


def test_the_fields_of_a_struct_are_parameters() -> None:
    """By name only, with their types; what has a default may be left out."""
    parameters = parameters_of(Box)
    assert values_of(Request("x", {"width": 3}), parameters) == {"width": 3}
    with pytest.raises(InvalidParams, match="x needs the parameter width"):
        values_of(Request("x"), parameters)
    with pytest.raises(InvalidParams, match="0 parameters by position"):
        values_of(Request("x", [1]), parameters)
