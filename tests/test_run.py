"""What a run of the tests reports about itself: durability tests that did not run, its seed, its skips in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DESCRIPTORS_LEFT_MAX, FIRST

ROOT = Path(__file__).parents[1]
REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="ran"/>
<testcase classname="tests.a" name="known"><skipped type="pytest.xfail" message="not yet"/></testcase>
<testcase classname="tests.a" name="skipped"><skipped type="pytest.skip" message="{reason}"/></testcase>
</testsuite></testsuites>"""
ENGINE = "no Docker engine: no docker command"
KERNEL = "needs a newer kernel: before 6.16"
RANDOM_TEST = """
from hypothesis import given, strategies
seen = []
@given(strategies.integers())
def test_numbers(number):
    seen.append(number)
def test_print():
    print(seen)
"""

LEAKING_TESTS = """
import os
kept = []
def test_few():
    kept.extend(os.dup(0) for _ in range({few}))
def test_many():
    kept.extend(os.dup(0) for _ in range({few} + 1))
def test_the_next():
    pass
"""


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python with *command*; the environment is this one's, without what decides here, and *environ*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MPSR_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**kept, **environ}, capture_output=True, text=True, check=False
    )


def test_the_end_of_a_run_names_the_durability_tests_that_did_not_run(tmp_path: Path) -> None:
    """Without strace, the last line before the totals has the number of power-cut tests, the tool and the tests."""
    ran = run("-m", "pytest", "-p", "no:cacheprovider", "tests/system/test_power_cut.py", PATH=str(tmp_path))
    name = "test_a_power_cut_at_any_moment_keeps_what_is_promised"
    line = f"DURABILITY NOT TESTED, 3 tests did not run: strace is not installed: {name} (3)"
    assert ran.stdout.splitlines()[-2] == line


def test_the_files_that_begin_first_are_there() -> None:
    """Each name is that of a file, once."""
    assert [name for name in FIRST if not (ROOT / "tests" / f"{name}.py").is_file()] == []
    assert len(FIRST) == len(set(FIRST))


def test_a_test_that_leaves_descriptors_open_fails(tmp_path: Path) -> None:
    """It is named, with what they refer to; a few are allowed, and the next test is not blamed."""
    test = tmp_path / "test_leaks.py"
    test.write_text(LEAKING_TESTS.format(few=DESCRIPTORS_LEFT_MAX))
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", f"--rootdir={tmp_path}")
    ran = run(*command, str(test), PYTHONPATH=str(ROOT))
    assert ran.stdout.splitlines()[-1].startswith("3 passed, 1 error in"), ran.stdout
    assert "ERROR at teardown of test_many" in ran.stdout
    assert f"left more than {DESCRIPTORS_LEFT_MAX} open: [" in ran.stdout


def test_the_seed_of_hypothesis_comes_from_the_environment(tmp_path: Path) -> None:
    """Two runs with one seed, one of them in CI, draw the same examples, with another seed others."""
    test = tmp_path / "test_numbers.py"
    test.write_text(RANDOM_TEST)
    command = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conftest", "-s", f"--rootdir={tmp_path}")
    environ = {"PYTHONPATH": str(ROOT), "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "examples")}
    drawn = []
    for ci, seed in (("", "1"), ("true", "1"), ("", "2"), ("true", "2")):
        ran = run(*command, str(test), **environ, CI=ci, MPSR_HYPOTHESIS_SEED=seed)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert f"hypothesis seed: {seed}" in ran.stdout
        drawn += [line for line in ran.stdout.splitlines() if "[" in line and "," in line]
    assert len(drawn) == 4
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


@pytest.mark.parametrize(
    ("reason", "environ", "user", "code"),
    [
        ("socat is not installed", {}, 0, 1),
        ("needs root: to mount", {}, 0, 1),
        ("needs root: to mount", {}, 1000, 0),
        ("needs root: to mount", {"MPSR_CI_REFERENCE": "1"}, 1000, 0),
        (ENGINE, {}, 0, 1),
        (ENGINE, {"MPSR_CI_NO_ENGINE": "1"}, 0, 0),
        (ENGINE, {"MPSR_CI_NO_ENGINE": "1", "MPSR_CI_REFERENCE": "1"}, 0, 1),
        (KERNEL, {}, 0, 0),
        (KERNEL, {"MPSR_CI_REFERENCE": "1"}, 0, 1),
    ],
)
def test_skips_in_ci(reason: str, environ: dict[str, str], user: int, code: int, tmp_path: Path) -> None:
    """A skip fails the run unless this machine is allowed its reason; it is listed either way, and nothing else is."""
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(reason=reason))
    as_user = f"import os, runpy, sys; os.geteuid = lambda: {user}; runpy.run_path(sys.argv[0], run_name='__main__')"
    ran = run("-c", f"import sys; sys.argv = ['.ci/skips.py', {str(report)!r}]; {as_user}", **environ)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout.splitlines() == [f"== {('allowed', 'failed')[code]}: 1 skipped", f"tests.a.skipped: {reason}"]
