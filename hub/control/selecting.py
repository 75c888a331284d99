"""
What the methods that read the journal select: their common parameters, and the selection that these make.

Always true: a caller gets only what it may read, and a change of the access rules takes effect at the next step.

Not here: the meaning of each filter (hub.control.filters), reading (hub.control.reading), the methods
(hub.control.messages, hub.control.looking).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec

from hub.access import TagRights, is_own
from hub.control.filters import query_of
from hub.control.reading import Readings, Selection
from hub.errors import CommandError
from hub.intake import Intake
from hub.wire.jsonrpc import NOT_ALLOWED, Request

Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Texts = str | Annotated[list[str], msgspec.Meta(max_length=64)]
SelectionT = TypeVar("SelectionT", bound=Selection)


class Filters(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The filters of `mpsr logs`, which all must match."""

    tag: Texts = ""
    grep: str | None = None
    ignore_case: bool = False
    invert_match: bool = False
    where: Texts = ""
    level: str | int | None = None
    pid: Whole | None = None
    uid: str | Whole | None = None
    comm: str | None = None
    unit: str | None = None
    container: str | None = None
    host: str | None = None
    since: str | Whole | None = None
    until: str | Whole | None = None


_FILTERS = Filters.__struct_fields__


async def selection_of(
    params: Filters, caller: Intake, readings: Readings, kind: type[SelectionT], **options: Any
) -> SelectionT:
    """Return a selection of *kind* for *caller*, made on the thread that reads. Raises InvalidParams."""
    given = params, caller.gate.tags, is_own(caller.peer), kind, options
    return await readings.do(caller.user, _selection, *given)


def _selection(
    params: Filters, rights: TagRights, is_trusted: bool, kind: type[SelectionT], options: dict[str, Any]
) -> SelectionT:
    """Return the selection. Raises InvalidParams. Compiling globs and expressions can take long."""
    filters = {name: getattr(params, name) for name in _FILTERS}
    for name in ("tag", "where"):
        filters[name] = filters[name] or ()
    if isinstance(filters["level"], int):
        filters["level"] = str(filters["level"])
    return query_of(partial(kind, rights=rights, **options), is_trusted=is_trusted, **filters)


def check(request: Request, caller: Intake, selection: Selection) -> None:
    """Take note of the rights that *caller* has now. Raises CommandError if it may no longer ask."""
    if not caller.gate.may_call(request.method):
        raise CommandError(f"uid {caller.peer.uid} may not read messages any longer", code=NOT_ALLOWED)
    selection.rights = caller.gate.tags
