"""What the tests of the source `files` share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.sources.followrig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """The files in an empty folder, with nothing stored."""
    found = Rig(tmp_path)
    yield found
    if found.following is not None:
        found.following.close()
