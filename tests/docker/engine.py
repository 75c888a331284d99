"""
A Docker engine, driven through its command line: the base image, the project's image, a composition.

Always true: no command is waited for without a limit; what was made here is removed again, except what is kept as a
cache: the base image that is made where no registry is in reach (`mpsr-test-base`), the wheels of the lock in a
temporary folder, and the stage of the image that has them (`mpsr-test-build`).

Not here: installing and starting an engine (.ci/docker).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PUBLISHED_BASE, OWN_BASE = "python:3.13-slim", "mpsr-test-base"
KEPT_STAGE = "mpsr-test-build"
WHEELS_PORT = 45_871
"""An argument of the build has the address of the wheels: with another one, the layers of the last do not count."""
PATIENCE_S = 60
BUILD_S = 300


class Missing(Exception):
    """Something that this machine would need is not there; the test is to be skipped."""


def run(command: Sequence[str], *, timeout: float = PATIENCE_S, env: dict[str, str] | None = None) -> str:
    """Return what a command prints; AssertionError with everything it said if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def docker(*args: str, timeout: float = PATIENCE_S) -> str:
    """Run one command of the client; the legacy builder, which Debian's engine has without plugins."""
    return run(["docker", *args], timeout=timeout, env={"DOCKER_BUILDKIT": "0"})


def require_engine() -> None:
    """Raise Missing unless an engine answers."""
    if shutil.which("docker") is None:
        raise Missing("no Docker engine: no docker command (.ci/docker start)")
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if asked.returncode:
        raise Missing(f"no Docker engine: {asked.stderr.strip().splitlines()[-1]} (.ci/docker start)")


def base_image() -> str:
    """Return the name of a base image: `BASE_IMAGE`, the published one, or one of our own. Raises Missing."""
    if named := os.environ.get("BASE_IMAGE"):
        return named
    for name, get in ((PUBLISHED_BASE, ("pull", "--quiet")), (OWN_BASE, ("image", "inspect"))):
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            docker(*get, name, timeout=120)
            return name
    with (Path(tempfile.gettempdir()) / f"{OWN_BASE}.lock").open("w") as lock:  # the tests of two files may want it
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(AssertionError):
            docker("image", "inspect", OWN_BASE)
            return OWN_BASE
        _bootstrap(OWN_BASE)
    return OWN_BASE


def _bootstrap(name: str) -> None:
    """Make an image of this machine's own Debian, from the mirror that its apt has."""
    if os.geteuid() != 0:
        raise Missing(f"needs root: {PUBLISHED_BASE} is not in reach, and only root can make a base image")
    if shutil.which("debootstrap") is None:
        raise Missing(f"no base image: {PUBLISHED_BASE} is not in reach, and debootstrap is not installed")
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    targets = run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    )
    mirrors = [line.split()[2] for line in targets.splitlines() if line.startswith(f"{codename} main ")]
    if not mirrors:
        raise Missing(f"no base image: apt has no mirror of {codename}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = f"{folder}/root"
        packages = "--include=python3,python3-venv,ca-certificates"
        run(["debootstrap", "--variant=minbase", packages, codename, root, mirrors[0]], timeout=BUILD_S)
        for rest in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(f"{root}/{rest}")
            os.makedirs(f"{root}/{rest}")
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(["docker", "import", "-", name], stdin=tar.stdout, check=True, timeout=BUILD_S)
        assert tar.returncode == 0


@contextlib.contextmanager
def built_image(base: str) -> Iterator[str]:
    """Build the image on *base* from the locked wheels that this machine's pip finds; give its name."""
    name = f"mpsr-test-{secrets.token_hex(4)}"
    with _wheels(base) as address:
        arguments = {"BASE_IMAGE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": address, "VERSION": "1.2.3"}
        build = ["build", "--quiet", "--network", "host", "--file", f"{ROOT}/docker/Dockerfile"]
        build += [f"--build-arg={key}={value}" for key, value in arguments.items()]
        try:
            docker(*build, "--target", "build", "--tag", f"{name}:build", str(ROOT), timeout=BUILD_S)
            _keep(f"{name}:build")
            docker(*build, "--tag", name, str(ROOT), timeout=BUILD_S)
            yield name
        finally:
            subprocess.run(["docker", "rmi", "--force", name, f"{name}:build"], capture_output=True, check=False)


def _keep(stage: str) -> None:
    """Give a stage the name by which it is kept, so that the next build begins with its layers; drop the last one."""
    last = ""
    with contextlib.suppress(AssertionError):  # there is none
        last = docker("image", "inspect", "--format", "{{.Id}}", KEPT_STAGE)
    docker("tag", stage, KEPT_STAGE)
    with contextlib.suppress(AssertionError):  # it is the same, or another run has just used it
        if last:
            docker("rmi", last)


@contextlib.contextmanager
def _wheels(base: str) -> Iterator[str]:
    """Serve the locked wheels on the loopback: pip may have folders of this machine, which no container sees."""
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = docker("run", "--rm", "--network", "none", "--entrypoint", "python3", base, "-c", asked)
    with _server(_downloaded(version)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def _downloaded(version: str) -> Path:
    """Return a folder with the locked wheels for a version of Python. The build checks their hashes once more."""
    lock = ROOT / "requirements-image.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"mpsr-test-wheels-{os.geteuid()}-{version}-{digest}"
    if not kept.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--require-hashes"]
            run([*pip, "-r", str(lock), "-d", f"{folder}/all", "--python-version", version], timeout=BUILD_S)
            with contextlib.suppress(OSError):  # another run has put it there
                os.rename(f"{folder}/all", kept)
    return kept


def _server(folder: Path) -> ThreadingHTTPServer:
    handler = partial(_Quiet, directory=folder)
    try:
        return ThreadingHTTPServer(("127.0.0.1", WHEELS_PORT), handler)
    except OSError:  # another run has the port
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Say nothing."""


class Composition:
    """docker/compose.yaml as a project of its own, whose volumes go with it."""

    def __init__(self, image: str) -> None:
        self.project = f"mpsr-test-{secrets.token_hex(4)}"
        root = docker("info", "--format", "{{.DockerRootDir}}")
        self._env = {
            "MPSR_IMAGE": image,
            "COMPOSE_PROJECT_NAME": self.project,
            "MPSR_SOCKET_ON_HOST": f"{root}/volumes/{self.project}_run/_data/hub.sock",
        }
        self.image = image
        self._command = _compose_command()

    def __enter__(self) -> Composition:
        try:
            self("up", "--detach", "--no-build", timeout=120)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The hub first: an engine that waits for an acknowledgement lets nobody stop its container.
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            docker("start", self.hub)
        self("down", "--volumes", "--remove-orphans", timeout=180)

    def __call__(self, *args: str, timeout: float = PATIENCE_S) -> str:
        """Run one command of compose."""
        return run([*self._command, *args], timeout=timeout, env=self._env)

    @property
    def hub(self) -> str:
        """The hub's container."""
        label = f"label=com.docker.compose.project={self.project}"
        return docker("ps", "--all", "--quiet", "--filter", label, "--filter", "label=com.docker.compose.service=hub")

    def begin(self, service: str, command: str) -> subprocess.Popen[bytes]:
        """Run another command as that service, in a container of its own: same user, group and mounts."""
        run_it = [*self._command, "run", "-T", "--rm", "--no-deps", service, command]
        env = {**os.environ, **self._env}
        return subprocess.Popen(
            run_it, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )

    def in_hub(self, *args: str) -> str:
        """Run `mpsr` in the hub's container."""
        return docker("exec", self.hub, "mpsr", *args)

    def messages(self, *filters: str) -> list[dict[str, Any]]:
        """Return what is in the journal, as `mpsr logs` shows it in the hub's container."""
        return [json.loads(line) for line in self.in_hub("logs", "--output", "json", *filters).splitlines()]


def _compose_command() -> list[str]:
    file = ["--file", f"{ROOT}/docker/compose.yaml"]
    if shutil.which("docker-compose") is not None:
        return ["docker-compose", *file]
    with contextlib.suppress(AssertionError):
        docker("compose", "version")
        return ["docker", "compose", *file]
    raise Missing("no docker compose (.ci/docker start)")
