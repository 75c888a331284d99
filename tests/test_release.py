"""`make release`: in a clone of this repository, with the dependencies that are installed here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci/release.py"
VERSION = "987.6.5"
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n"


def loaded(path: Path) -> ModuleType:
    """Import a script of .ci/."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = loaded(SCRIPT)


def git(folder: Path, *args: str) -> str:
    """Return what git prints in a folder."""
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def state(folder: Path) -> list[str]:
    """Return everything that a release changes: commits, tags, work trees, files."""
    listed = git(folder, "status", "--porcelain", "--ignored"), git(folder, "worktree", "list", "--porcelain")
    return [git(folder, "log", "--format=%H", "-1"), git(folder, "tag"), *listed]


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a clone."""
    command = [sys.executable, str(SCRIPT), *args, "--dependencies", sysconfig.get_path("purelib")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what is committed here, with something to release."""
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(ROOT), str(folder))
    git(folder, "config", "user.name", "Somebody")
    git(folder, "config", "user.email", "somebody@example.org")
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    git(folder, "commit", "--quiet", "--all", "--message", "Something to release")
    return folder


def test_a_release(clone: Path) -> None:
    """A dry run changes nothing. A release is one commit with the version, a tag with the notes, a checked wheel."""
    before = state(clone)
    dry = make(clone, VERSION, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "- A thing." in dry.stdout
    assert state(clone) == before
    done = make(clone, VERSION)
    assert (done.returncode, done.stderr) == (0, "")
    assert git(clone, "log", "--format=%s", "-2").split("\n") == [f"Release {VERSION}", "Something to release"]
    assert git(clone, "rev-parse", f"v{VERSION}^{{commit}}") == git(clone, "rev-parse", "HEAD")
    notes = "### Added\n\n- A thing."
    assert git(clone, "tag", "--list", "--format=%(contents)", f"v{VERSION}") == f"v{VERSION}\n\n{notes}"
    assert git(clone, "status", "--porcelain") == ""
    assert f'\nversion = "{VERSION}"\n' in (clone / "pyproject.toml").read_text()
    assert f"## [Unreleased]\n\n## [{VERSION}] - 2" in (clone / "CHANGELOG.md").read_text()
    assert (clone / "dist/NOTES.md").read_text() == notes + "\n"
    names = sorted(path.name for path in (clone / "dist").iterdir())
    assert names == ["NOTES.md", f"mpsr-{VERSION}-py3-none-any.whl", f"mpsr-{VERSION}.tar.gz"]
    assert f"mpsr-{VERSION}-py3-none-any.whl" in (clone / "README.md").read_text()
    again = make(clone, VERSION)
    assert (again.returncode, again.stderr) == (1, f"release refused: the tag v{VERSION} exists\n")


BROKEN = {
    "a file that is not committed": (False, "extra.txt", "x", "the work tree is not clean:\n?? extra.txt\n"),
    "nothing to release": (True, "CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n", "nothing under [Unreleased]"),
    "a wheel that does not work": (True, "hub/cli/send.py", "raise SystemExit(3)\n", "mpsr send"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_failed_check_changes_nothing(what: str, clone: Path) -> None:
    """The refusal names the reason; commits, tags, work trees and files are as before."""
    is_committed, name, text, reason = BROKEN[what]
    (clone / name).write_text(text)
    if is_committed:
        git(clone, "commit", "--quiet", "--all", "--message", "Break it")
    before = state(clone)
    refused = make(clone, VERSION)
    assert refused.returncode == 1
    assert refused.stderr.startswith("release refused: ")
    assert reason in refused.stderr
    assert state(clone) == before


@pytest.mark.parametrize("version", ["1.2", "1.2.3rc1", "v1.2.3", "01.2.3", "0.2.9"])
def test_which_versions(version: str) -> None:
    """A version has three numbers, and is not lower than the present one."""
    with pytest.raises(release.Refused, match=version):
        release.versioned('[project]\nversion = "0.3.0"\n', version)
    assert release.versioned('[project]\nversion = "0.3.0"\n', "0.3.0") == '[project]\nversion = "0.3.0"\n'


def test_the_section_of_a_release() -> None:
    """What was unreleased gets version and date, an empty section takes its place, and the rest stays."""
    text, notes = release.released(CHANGELOG, "0.2.0", "2026-02-03")
    head = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-02-03\n\n"
    assert text == head + "### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n"
    assert notes == "### Added\n\n- A thing.\n"
    for wrong in (text, CHANGELOG.replace("[0.1.0]", "[0.2.0]"), "# Changelog\n"):
        with pytest.raises(release.Refused):
            release.released(wrong, "0.2.0", "2026-02-03")
