"""The tests run against the package that a user installs."""

import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import hub
import producers


def test_the_tests_import_the_installed_package() -> None:
    """`hub` and `producers` come from site-packages, not from the checkout beside the tests."""
    site = Path(sysconfig.get_path("purelib"))
    assert [Path(package.__path__[0]) for package in (hub, producers)] == [site / "hub", site / "producers"]


def test_the_wheel_holds_what_is_not_code() -> None:
    """The type markers, FORMAT.md, the examples and the licence are installed with the code."""
    installed = {str(file) for file in distribution("mpsr").files or ()}
    assert installed >= {"hub/py.typed", "producers/py.typed", "hub/journal/FORMAT.md"}
    assert any(name.startswith("producers/examples/") for name in installed)
    assert any(name.endswith("licenses/LICENSE") for name in installed)
