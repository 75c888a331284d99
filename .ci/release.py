"""
Make a release, up to the upload: commit, tag, sdist, wheel, and notes from the CHANGELOG.

    .ci/release.py VERSION [--dry-run] [--dependencies FOLDER]

Everything is built and checked in a work tree of its own, which is removed. Only if all went well, the branch moves to
the new commit and gets the tag: a failed check changes nothing. `--dry-run` ends before that. `--dependencies` takes
what the wheel depends on from a folder of installed packages, not from the package index.

Not here: the upload (`git push --follow-tags`, and dist/ to the package index).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

UNRELEASED = "## [Unreleased]\n"
PATIENCE_S = 60


class Refused(Exception):
    """The release is not made; the text says why."""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a command prints. Raises Refused with everything it said if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def released(changelog: str, version: str, date: str) -> tuple[str, str]:
    """Return the changelog with what was unreleased under *version*, and that section alone."""
    if f"## [{version}]" in changelog:
        raise Refused(f"CHANGELOG.md already has a section {version}")
    before, found, after = changelog.partition(UNRELEASED)
    notes, rest = re.split(r"(?=^## )|\Z", after, maxsplit=1, flags=re.MULTILINE) if found else ("", "")
    if not re.search(r"^- ", notes, re.MULTILINE):
        raise Refused("CHANGELOG.md has nothing under [Unreleased]")
    notes = notes.strip() + "\n"
    heading = f"## [{version}] - {date}\n"
    return f"{before}{UNRELEASED}\n{heading}\n{notes}" + (f"\n{rest}" if rest else ""), notes


def versioned(pyproject: str, version: str) -> str:
    """Return pyproject.toml with *version*, which is not lower than the one in it."""
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", version):
        raise Refused(f"not a version like 1.2.3: {version}")
    line = re.compile(r'^version = "([\d.]+)"$', re.MULTILINE)
    if len(found := line.findall(pyproject)) != 1:
        raise Refused('pyproject.toml has not one line `version = "1.2.3"`')
    if [int(part) for part in version.split(".")] < [int(part) for part in found[0].split(".")]:
        raise Refused(f"{version} is lower than {found[0]}, the version in pyproject.toml")
    return line.sub(f'version = "{version}"', pyproject)


def named(readme: str, version: str) -> str:
    """Return README.md with *version* in the name of the wheel."""
    return re.sub(r"mpsr-[\d.]+-py3-none-any", f"mpsr-{version}-py3-none-any", readme)


@contextlib.contextmanager
def work_tree(root: Path) -> Iterator[Path]:
    """Give a second work tree of what is committed, and remove it."""
    with tempfile.TemporaryDirectory(prefix="mpsr-release-") as folder:
        tree = Path(folder, "tree")
        run("git", "worktree", "add", "--quiet", "--detach", tree, "HEAD", cwd=root)
        try:
            yield tree
        finally:
            run("git", "worktree", "remove", "--force", tree, cwd=root)


def build(tree: Path) -> list[Path]:
    """Return sdist and wheel, built by the locked build backend."""
    run(sys.executable, "-m", "hatchling", "build", "--directory", "dist", cwd=tree)
    built = sorted((tree / "dist").iterdir())
    if [path.name.endswith(end) for path, end in zip(built, (".whl", ".tar.gz"), strict=True)] != [True, True]:
        raise Refused(f"built {', '.join(path.name for path in built)}, not an sdist and a wheel")
    return built


def check(wheel: Path, version: str, tree: Path, dependencies: str | None) -> None:
    """Install the wheel in a fresh environment, and send a message through it."""
    with tempfile.TemporaryDirectory(prefix="mpsr-wheel-") as folder:
        home = Path(folder)
        venv.create(home / "venv")
        python = home / "venv/bin/python"
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "--quiet",
            "--disable-pip-version-check",
            "install",
        ]
        if dependencies:
            run(*pip, "--no-index", "--no-deps", wheel, cwd=home)
            site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
            Path(site, "dependencies.pth").write_text(dependencies + "\n")  # after what is installed here
        else:
            pins = re.findall(r"^([\w.-]+==[^\\\n]+?) *\\?$", (tree / "requirements.lock").read_text(), re.MULTILINE)
            (home / "pins").write_text("\n".join(pins) + "\n")
            run(*pip, "--constraint", home / "pins", wheel, cwd=home)
        round_trip(home / "venv/bin/mpsr", version, home)


def round_trip(mpsr: Path, version: str, home: Path) -> None:
    """Raise Refused unless the installed command has the version, and delivers a message."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MPSR_", "PYTHON"))}
    env |= {"MPSR_SOCKET": str(home / "hub.sock"), "MPSR_JOURNAL": str(home / "journal")}
    if version not in (said := run(mpsr, "--version", cwd=home, env=env)).split():
        raise Refused(f"mpsr --version of the wheel: {said}")
    with subprocess.Popen([mpsr, "hub"], cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as hub:
        try:
            run(mpsr, "send", "--tag", "release", f"this is {version}", cwd=home, env=env)
            found = run(mpsr, "logs", "--tag", "release", "--output", "text", cwd=home, env=env)
        finally:
            hub.terminate()
            said = hub.communicate(timeout=PATIENCE_S)[0].decode(errors="replace")
    if hub.returncode or f"this is {version}" not in found:
        raise Refused(f"a message through the wheel: found {found!r}, the hub ended with {hub.returncode}:\n{said}")


def release(root: Path, version: str, *, dry_run: bool, dependencies: str | None) -> None:
    """Make the release of the repository at *root*."""
    tag = f"v{version}"
    if changed := run("git", "status", "--porcelain", cwd=root):
        raise Refused(f"the work tree is not clean:\n{changed}")
    if run("git", "tag", "--list", tag, cwd=root):
        raise Refused(f"the tag {tag} exists")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    pyproject = versioned((root / "pyproject.toml").read_text(encoding="utf-8"), version)
    changelog, notes = released((root / "CHANGELOG.md").read_text(encoding="utf-8"), version, date)
    with work_tree(root) as tree:
        readme = (tree / "README.md").read_text(encoding="utf-8")
        (tree / "README.md").write_text(named(readme, version), encoding="utf-8")
        (tree / "pyproject.toml").write_text(pyproject, encoding="utf-8")
        (tree / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
        print(f"== build {version}")
        built = build(tree)
        print(f"== check {built[0].name}")
        check(built[0], version, tree, dependencies)
        if dry_run:
            print(f"== dry run: {tag} is not made. Its notes:\n\n{notes}", end="")
            return
        run("git", "commit", "--quiet", "--all", "--message", f"Release {version}", cwd=tree)
        commit = run("git", "rev-parse", "HEAD", cwd=tree).strip()
        run("git", "tag", "--annotate", "--cleanup=verbatim", "--message", f"{tag}\n\n{notes}", tag, commit, cwd=tree)
        try:
            run("git", "merge", "--quiet", "--ff-only", commit, cwd=root)
        except Refused:
            run("git", "tag", "--delete", tag, cwd=root)
            raise
        dist = root / "dist"
        shutil.rmtree(dist, ignore_errors=True)
        dist.mkdir()
        for path in built:
            shutil.copy2(path, dist)
        (dist / "NOTES.md").write_text(notes, encoding="utf-8")
    print(f"== {tag} is made; dist/ has wheel, sdist and NOTES.md")
    print("upload: git push --follow-tags, then dist/*.whl and dist/*.tar.gz")


def main() -> int:
    """Make the release of the repository of this folder; return the exit code."""
    parser = argparse.ArgumentParser(description="Make a release, up to the upload.")
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--dependencies")
    given = parser.parse_args()
    try:
        root = Path(run("git", "rev-parse", "--show-toplevel", cwd=Path.cwd()).strip())
        release(root, given.version, dry_run=given.dry_run, dependencies=given.dependencies)
    except Refused as refused:
        print(f"release refused: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
