"""
Commands from typed functions: the parameters of a request are validated against the annotations.

A function is called with the parameters of the request by name, whether the request has them by name or by position. A
parameter of type `Peer` is not the caller's to give: it is the peer. A coroutine function runs on the loop, and an
asynchronous generator streams; so does a function that is annotated to return an asynchronous iterator. Any other
function runs on a thread, if there are threads for it.

Always true: wrong parameters are an error that names the wrong one, before anything is called; a function that cannot
be a command is refused when it is registered, with the reason.

Not here: running and replying (hub.dispatch), the threads (hub.control.threads).
Source: JSON-RPC 2.0, section 4.2; PEP 484; msgspec's documentation, "Supported Types".
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import msgspec.inspect

from hub.control.threads import Threads
from hub.dispatch import ForCaller
from hub.errors import BadCommand, InvalidParams
from hub.intake import Intake
from hub.message import Peer
from hub.wire.jsonrpc import METHOD_CHARS_MAX, Request, is_text

_SHOWN_CHARS = 32
_STREAMS = (AsyncIterator, AsyncGenerator, AsyncIterable)


class Parameter(NamedTuple):
    """One parameter, and its type."""

    name: str
    kind: Any
    is_required: bool
    is_positional: bool


def typed(function: Callable[..., Any], name: str, threads: Threads | None = None) -> ForCaller:
    """Return the command that calls *function*. Raises BadCommand if it cannot be the command *name*."""
    signature, hints, target = _look_at(function, name)
    given: dict[str, type[Peer] | type[Intake]] = {}
    parameters: dict[str, Parameter] = {}
    for each in signature.parameters.values():
        kind = hints[each.name]
        if kind is Peer or kind is Intake:
            given[each.name] = kind
            continue
        is_positional = each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters[each.name] = Parameter(each.name, kind, each.default is inspect.Parameter.empty, is_positional)
    order = [each.name for each in parameters.values() if each.is_positional]
    streams = inspect.isasyncgenfunction(target) or typing.get_origin(hints.get("return")) in _STREAMS
    is_on_loop = threads is None or streams or inspect.iscoroutinefunction(target)

    def call(request: Request, caller: Intake) -> Any:
        values = values_of(request, parameters, order)
        for parameter, kind in given.items():
            values[parameter] = caller.peer if kind is Peer else caller
        if is_on_loop:
            return function(**values)
        assert threads is not None
        return threads.run(caller.peer.uid, function, values)

    call.__doc__ = function.__doc__
    return ForCaller(call, streams)


def parameters_of(struct: type[msgspec.Struct]) -> dict[str, Parameter]:
    """Return the fields of *struct* as parameters, by name."""
    fields = msgspec.structs.fields(struct)
    return {each.name: Parameter(each.name, each.type, each.required, False) for each in fields}


def _look_at(function: Callable[..., Any], name: str) -> tuple[inspect.Signature, dict[str, Any], Any]:
    """Return the signature and the types of *function*, and what was written with ``def``. Raises BadCommand."""
    if not 0 < len(name) <= METHOD_CHARS_MAX or not is_text(name):
        raise BadCommand(name[:METHOD_CHARS_MAX], f"a name is a text of 1 to {METHOD_CHARS_MAX} characters")
    if not callable(function):
        raise BadCommand(name, "not a function")
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, type) and not inspect.isroutine(target):
        target = target.__call__
    if inspect.isgeneratorfunction(target):
        raise BadCommand(name, "a generator blocks the loop: to stream, write it as `async def` with `yield`")
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise BadCommand(name, f"its annotations cannot be read ({error})") from error
    for each in signature.parameters.values():
        if each.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD and each.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise BadCommand(name, f"{each.name} has no name that a caller could give (no *, ** and / are possible)")
        if each.name not in hints:
            raise BadCommand(name, f"{each.name} has no type: annotate it, as in `{each.name}: int`")
        if hints[each.name] in (Peer, Intake):
            continue
        if not _is_in_json(hints[each.name]):
            raise BadCommand(name, f"JSON cannot hold the type of {each.name}: {hints[each.name]}")
    return signature, hints, target


def _is_in_json(kind: Any) -> bool:
    """Return whether msgspec can make a value of type *kind* from JSON, with what is in it."""
    try:
        waiting: list[object] = [msgspec.inspect.type_info(kind)]
    except TypeError:
        return False
    seen: set[int] = set()
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.CustomType):
            return False
        if isinstance(info, tuple):
            waiting += info
        elif isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(info) not in seen:
            seen.add(id(info))
            waiting += [getattr(info, field) for field in info.__struct_fields__]
    return True


def values_of(request: Request, parameters: dict[str, Parameter], order: Sequence[str] = ()) -> dict[str, Any]:
    """Return the validated parameters of *request*, by name; *order* is that by position. Raises InvalidParams."""
    given = request.params
    if isinstance(given, list):
        if len(given) > len(order):
            raise InvalidParams(f"{request.method} has {len(order)} parameters by position, not {len(given)}")
        given = dict(zip(order, given, strict=False))
    values: dict[str, Any] = {}
    for name, value in (given or {}).items():
        parameter = parameters.get(name)
        if parameter is None:
            shown, known = name[:_SHOWN_CHARS], ", ".join(parameters) or "none"
            raise InvalidParams(f"{request.method} has no parameter {shown!r} (there are: {known})", param=shown)
        try:
            values[name] = msgspec.convert(value, parameter.kind)
        except msgspec.ValidationError as error:
            raise InvalidParams(f"{name}: {_as_text(error)}", param=name) from error
    for name, parameter in parameters.items():
        if parameter.is_required and name not in values:
            raise InvalidParams(f"{request.method} needs the parameter {name}", param=name)
    return values


def _as_text(error: msgspec.ValidationError) -> str:
    """Return what is wrong, as in ``expected int, got str``."""
    text = str(error).replace("`", "")
    return text[:1].lower() + text[1:]
