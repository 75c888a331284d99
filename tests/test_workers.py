"""tests.workers: the tests of several files in several processes, and what becomes of a worker that dies."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree

from tests.test_run import run

FILE = """
import os, pathlib, warnings, pytest
@pytest.fixture(scope="session", autouse=True)
def session():
    yield
    pathlib.Path("ended").joinpath(str(os.getpid())).touch()
@pytest.mark.parametrize("number", range(3))
def test_place(number, tmp_path, capfd):
    print("printed")
    assert capfd.readouterr().out == "printed\\n"
    with open("places", "a") as places:
        print("{name}", number, os.getpid(), file=places)
"""
TOGETHER = """
import os, pathlib, time, pytest
@pytest.mark.parametrize("number", range(3))
def test_together(number):
    pathlib.Path(f"pid.{os.getpid()}").touch()
    while len([*pathlib.Path().glob("pid.*")]) < 2:
        time.sleep(0.01)
"""
FAILING = """
import os, warnings, pytest
def test_fails():
    print("what it printed")
    assert 1 == 2
def test_warns():
    warnings.warn("a warning")
@pytest.mark.skip(reason="a reason")
def test_is_skipped():
    pass
"""
DYING = """
import os
def test_before():
    pass
def test_dies():
    os._exit(7)
def test_after():
    pass
"""


def suite(folder: Path, *args: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run *files* in two workers."""
    (folder / "ended").mkdir()
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text.replace("{name}", name))
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", "--workers=2")
    start = f"import os, sys; os.chdir({str(folder)!r}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return run(
        "-c", start, *command, f"--rootdir={folder}", *args, str(folder), PYTHONPATH=str(Path(__file__).parents[1])
    )


def places(folder: Path) -> dict[str, list[list[str]]]:
    """Return the number of each test and its process, by file."""
    found: dict[str, list[list[str]]] = {}
    for line in (folder / "places").read_text().splitlines():
        name, *rest = line.split()
        found.setdefault(name, []).append(rest)
    return found


def test_a_file_is_run_in_order_by_one_worker(tmp_path: Path) -> None:
    """Each test runs once; a worker ends the fixtures of its session."""
    ran = suite(tmp_path, **dict.fromkeys(("a", "b", "c", "d"), FILE))
    assert ran.stdout.splitlines()[-1].startswith("12 passed in"), ran.stdout
    found = places(tmp_path)
    assert sorted(found) == ["a", "b", "c", "d"]
    for tests in found.values():
        assert [number for number, _ in tests] == ["0", "1", "2"]
        assert len({pid for _, pid in tests}) == 1
    pids = {pid for tests in found.values() for _, pid in tests}
    assert {path.name for path in (tmp_path / "ended").iterdir()} >= pids


def test_each_test_can_be_taken_by_itself(tmp_path: Path) -> None:
    """With --each, the tests of one file run in both workers, at the same time."""
    ran = suite(tmp_path, "--each", "--timeout=60", a=TOGETHER)
    assert ran.stdout.splitlines()[-1].startswith("3 passed in"), ran.stdout


def test_everything_is_reported_as_without_workers(tmp_path: Path) -> None:
    """A failure with what was printed, a warning, a skip; and the report in XML has each test once."""
    ran = suite(tmp_path, f"--junitxml={tmp_path}/report.xml", a=FILE, b=FAILING)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith("1 failed, 4 passed, 1 skipped, 1 warning in"), ran.stdout
    for text in ("what it printed", "assert 1 == 2", "UserWarning: a warning", "FAILED test_b.py::test_fails"):
        assert text in ran.stdout
    cases = [*ElementTree.parse(tmp_path / "report.xml").iter("testcase")]
    assert len(cases) == 6
    assert [case.get("name") for case in cases if case.find("failure") is not None] == ["test_fails"]


def test_a_worker_that_dies_fails_its_file(tmp_path: Path) -> None:
    """The test in which it ended and those after it; the other files run."""
    ran = suite(tmp_path, a=FILE, b=DYING, c=FILE, d=FILE)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith("2 failed, 10 passed in"), ran.stdout
    assert "has ended with exit code 7 in this test" in ran.stdout
    assert "has ended with exit code 7 before this test" in ran.stdout


def test_the_first_failure_can_end_the_run(tmp_path: Path) -> None:
    """With -x, pytest says so, and both workers end the fixtures of their sessions."""
    ran = suite(tmp_path, "-x", a=FILE + FAILING, **{f"b{number:02}": FILE for number in range(20)})
    assert ran.returncode == 1
    assert "stopping after 1 failures" in ran.stdout
    pids = {pid for tests in places(tmp_path).values() for _, pid in tests}
    assert {path.name for path in (tmp_path / "ended").iterdir()} >= pids
