"""Work in the background of the screen: of each group, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from textual.dom import DOMNode
from textual.worker import WorkType


def begin(node: DOMNode, group: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin *work*, and cancel what is under way in its *group*. It ends with *node*; an error in it ends the app."""
    given: WorkType[None] = work
    node.run_worker(given, group=group, exclusive=True)
