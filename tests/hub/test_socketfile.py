"""hub.socketfile: one hub per path, with the right owner and mode, and no other file is harmed."""

import errno
import grp
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hub.errors import NotASocket, SocketError, SocketInUse, SocketPathTooLong, UnknownGroup
from hub.socketfile import SocketFile
from hub.socketpath import PATH_BYTES_MAX, permit_file
from tests.support import eventually
from tests.users import ALICE, MALLORY, NEEDS_ROOT, as_user, open_folder


@contextmanager
def bound(path: str | Path, mode: int = 0o660, group: str | None = None) -> Iterator[SocketFile]:
    file = SocketFile.bind(str(path), mode=mode, group=group)
    try:
        yield file
    finally:
        file.remove()
        file.close()


def ask(path: str | Path) -> int:
    """Return 0 if a process listens at *path*, else the errno of connecting."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        return client.connect_ex(str(path))


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


BINDER = """
import sys
from hub.errors import MpsrError
from hub.socketfile import SocketFile
held = None
for line in sys.stdin:  # a path: listen there; an empty line: let go
    if held is not None:
        held.remove()
        held.close()
        held = None
    if path := line.rstrip("\\n"):
        try:
            held = SocketFile.bind(path)
            print("listening", flush=True)
        except MpsrError as error:
            print(error, flush=True)
    else:
        print("free", flush=True)
"""


class Binder:
    """Another process that listens at the path that it is given."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BINDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, path: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(path + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def bind(self, path: str | Path) -> str:
        self.tell(str(path))
        return self.answer()

    def __enter__(self) -> "Binder":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_listens_and_goes(tmp_path: Path) -> None:
    """While bound, the path answers; after `remove` the backlog can still be accepted; the lock file stays."""
    path = tmp_path / "s"
    file = SocketFile.bind(str(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"hello")
        file.remove()
        assert not path.exists()
        accepted, _ = file.sock.accept()
        with accepted:
            assert accepted.recv(9) == b"hello"
    assert not file.sock.get_inheritable()
    file.close()
    file.close()
    assert os.listdir(tmp_path) == ["s.lock"]


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path keeps its meaning from the start to the end."""
    monkeypatch.chdir(tmp_path)
    with bound("s"):
        monkeypatch.chdir("/")
        assert ask(tmp_path / "s") == 0
    assert not (tmp_path / "s").exists()


def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    """The socket of a dead hub is replaced, and so is one under the temporary name."""
    for name in ("s", "s~"):
        dead_socket(tmp_path / name)
    assert ask(tmp_path / "s") == errno.ECONNREFUSED
    with bound(tmp_path / "s"):
        assert ask(tmp_path / "s") == 0
        assert sorted(os.listdir(tmp_path)) == ["s", "s.lock"]


@pytest.mark.parametrize("name", ["s", "s~"])
@pytest.mark.parametrize("kind", ["file", "folder", "symbolic link", "dangling link", "FIFO"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, name: str, kind: str) -> None:
    """A file, folder, link or FIFO at the path, or at the temporary name, is refused and unchanged."""
    path = tmp_path / name
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "symbolic link":
        dead_socket(tmp_path / "target")
        path.symlink_to("target")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(NotASocket) as caught:
        SocketFile.bind(str(tmp_path / "s"))
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert kind.replace("dangling", "symbolic") in str(caught.value)
    assert not os.path.lexists(tmp_path / "s.lock"), "a refused start leaves nothing"
    if kind == "file":
        assert path.read_text() == "precious"
        path.unlink()
        with bound(tmp_path / "s"):  # the refusal has released everything
            pass


def test_a_live_hub_is_refused_by_name(tmp_path: Path) -> None:
    """The error of a second hub names the process that has the path, and the first continues."""
    with Binder() as other:
        assert other.bind(tmp_path / "s") == "listening"
        before = os.lstat(tmp_path / "s").st_ino
        with pytest.raises(SocketInUse, match=f"process {other.process.pid} is already listening") as caught:
            SocketFile.bind(str(tmp_path / "s"))
        assert caught.value.pid == other.process.pid
        assert (ask(tmp_path / "s"), os.lstat(tmp_path / "s").st_ino) == (0, before)


def test_a_live_server_that_is_no_hub_is_refused_by_name(tmp_path: Path) -> None:
    """A foreign listening socket without a lock is refused; the kernel names its process."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen(0)
        with pytest.raises(SocketInUse, match=f"process {os.getpid()} is already listening"):
            SocketFile.bind(str(tmp_path / "s"))
        with pytest.raises(SocketInUse, match="another process"):  # its backlog is full now, so its process is unknown
            SocketFile.bind(str(tmp_path / "s"))
        assert (tmp_path / "s").is_socket()


def test_a_socket_of_another_type_is_refused(tmp_path: Path) -> None:
    """A live datagram socket is in use, and is left alone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "s"))
        before = os.lstat(tmp_path / "s").st_ino
        with pytest.raises(SocketInUse, match=r"another process is already listening there .*another --socket"):
            SocketFile.bind(str(tmp_path / "s"))
        assert os.lstat(tmp_path / "s").st_ino == before


def test_datagrams(tmp_path: Path) -> None:
    """A socket for datagrams reports the writer of each, and can be bound anew."""
    path = str(tmp_path / "s")
    bound = SocketFile.bind(path, mode=0o600, kind=socket.SOCK_DGRAM)
    with closing(bound), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        client.sendto(b"x", path)
        data, ((level, kind, credentials),), _, _ = bound.sock.recvmsg(10, 100)
        assert (data, level, kind) == (b"x", socket.SOL_SOCKET, 2)
        assert struct.unpack("3i", credentials) == (os.getpid(), os.getuid(), os.getgid())
        with pytest.raises(SocketInUse):
            SocketFile.bind(path)
        os.unlink(path)
        bound.listen_again(0o600, None).close()
        client.sendto(b"y", path)
        assert bound.sock.recv(10) == b"y"


def test_a_second_hub_in_the_same_process(tmp_path: Path) -> None:
    """It is refused too, by any name of the folder, and the first one's lock is still held."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with bound(tmp_path / "real/s") as first, Binder() as other:
        for path in ("real/s", "link/s", "real/../real/s"):
            with pytest.raises(SocketInUse, match=f"process {os.getpid()} "):
                SocketFile.bind(str(tmp_path / path))
        first.remove()  # from here on only the lock shows that it is taken
        assert f"process {os.getpid()} is already listening" in other.bind(tmp_path / "real/s")


def test_neighbours_do_not_meet(tmp_path: Path) -> None:
    """Similar paths, or a path that equals the temporary name of another, are separate sockets."""
    names = ["~s", "as", "bs", "+s"]
    files = [SocketFile.bind(str(tmp_path / name)) for name in names]
    assert [ask(tmp_path / name) for name in names] == [0] * 4
    with pytest.raises(SocketInUse), bound(tmp_path / "t~"), bound(tmp_path / "t"):
        pass
    for file in files:
        file.remove()
        file.close()


@pytest.mark.parametrize("length", [PATH_BYTES_MAX - 1, PATH_BYTES_MAX])
@pytest.mark.parametrize("first", ["x", "~"])
def test_the_longest_path(tmp_path: Path, length: int, first: str) -> None:
    """A path of the maximum length can be bound and connected to."""
    room = length - len(os.fsencode(tmp_path)) - 1
    path = tmp_path / first.ljust(room, "y")
    with bound(path):
        assert ask(path) == 0
    with bound(path):
        assert sorted(os.listdir(tmp_path)) == sorted([path.name, path.name + ".lock"])


def test_a_path_too_long(tmp_path: Path) -> None:
    """One byte more is refused before anything is made; the error has both lengths."""
    path = tmp_path / "new" / ("ü" * PATH_BYTES_MAX)
    with pytest.raises(SocketPathTooLong, match=rf"{len(os.fsencode(path))} bytes long, {PATH_BYTES_MAX} at most"):
        SocketFile.bind(str(path))
    room = PATH_BYTES_MAX + 1 - len(os.fsencode(tmp_path)) - 1
    with pytest.raises(SocketPathTooLong):
        SocketFile.bind(str(tmp_path / ("x" * room)))
    assert os.listdir(tmp_path) == []


def test_an_unknown_group(tmp_path: Path) -> None:
    """A group that does not exist is refused before anything is made."""
    with pytest.raises(UnknownGroup, match="no-such-group"):
        SocketFile.bind(str(tmp_path / "new/s"), group="no-such-group")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A folder that cannot be made is reported, with a remedy."""
    (tmp_path / "file").touch()
    with pytest.raises(SocketError, match=r"cannot listen on .*/file/s: .*: .*/file.* \(choose a --socket in"):
        SocketFile.bind(str(tmp_path / "file/s"))


def test_a_folder_of_others(tmp_path: Path) -> None:
    """A folder that is not writable is reported, with a remedy."""
    tmp_path.chmod(0o500)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may write anywhere
    try:
        with pytest.raises(SocketError, match=r"Permission denied.*\(choose a --socket in"):
            SocketFile.bind(str(tmp_path / "s"))
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_mode_and_group(tmp_path: Path, mode: int) -> None:
    """The socket has the requested mode and group, whatever the umask."""
    groups = grp.getgrall() if os.geteuid() == 0 else [grp.getgrgid(os.getegid())]
    old = os.umask(0o077)
    try:
        with bound(tmp_path / "s", mode, groups[-1].gr_name):
            there = os.stat(tmp_path / "s")
            assert (stat.S_IMODE(there.st_mode), there.st_gid) == (mode, groups[-1].gr_gid)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(tmp_path / "s.lock").st_mode) == 0o600


AT_THE_RENAME = """
import os, socket, stat, sys
from hub.socketfile import SocketFile
seen = []

def look(event, args):  # called before it happens
    if event == "os.rename":
        with socket.socket(socket.AF_UNIX) as client:
            seen.append((client.connect_ex(args[0]), stat.S_IMODE(os.stat(args[0]).st_mode), os.stat(args[0]).st_gid))
    elif event in ("os.chmod", "os.chown") and seen:
        seen.append(event)

sys.addaudithook(look)
SocketFile.bind(sys.argv[1], mode=0o642, group=sys.argv[2])
print(seen)
"""


def test_who_sees_the_path_can_connect(tmp_path: Path) -> None:
    """Mode, group and listening are set before the socket appears at its path."""
    group = (grp.getgrall() if os.geteuid() == 0 else [grp.getgrgid(os.getegid())])[-1]
    command = [sys.executable, "-W", "ignore", "-c", AT_THE_RENAME, str(tmp_path / "s"), group.gr_name]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert ran.stdout == f"[(0, {0o642}, {group.gr_gid})]\n"


def test_the_folder(tmp_path: Path) -> None:
    """A missing folder is made: accessible to all users if made by root, else only to its user."""
    old = os.umask(0o022)
    try:
        with bound(tmp_path / "a/b/s"):
            expected = 0o755 if os.geteuid() == 0 else 0o700
            assert stat.S_IMODE(os.stat(tmp_path / "a/b").st_mode) == expected
    finally:
        os.umask(old)


def test_the_folders_above(tmp_path: Path) -> None:
    """Missing parents get the same mode, whatever the umask: a world-writable parent would be unsafe."""
    old = os.umask(0)
    try:
        with bound(tmp_path / "a/b/c/s"):
            modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")}
            assert modes == {0o755 if os.geteuid() == 0 else 0o700}
    finally:
        os.umask(old)


def test_a_folder_that_all_can_write(tmp_path: Path) -> None:
    """It is refused by name with a remedy, and nothing is made in it; a sticky one, like /tmp, is accepted."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for path in (shared / "s", shared / "new/s"):
        with pytest.raises(SocketError) as caught:
            SocketFile.bind(str(path))
        assert str(caught.value) == (
            f"cannot listen on {path}: {shared} can be written by everybody: another user could take its place "
            "(choose a --socket in a folder that only you or root can write to)"
        )
    assert os.listdir(shared) == []
    shared.chmod(0o1777)
    with bound(shared / "s"):
        assert ask(shared / "s") == 0


@NEEDS_ROOT
def test_a_folder_of_another_user() -> None:
    """Root refuses it too; its owner accepts it."""
    with open_folder() as folder:
        folder.chmod(0o1777)
        theirs = folder / "theirs"
        theirs.mkdir()
        os.chown(theirs, MALLORY, MALLORY)
        with pytest.raises(SocketError, match=f"theirs belongs to user {MALLORY}, in a folder that others can write"):
            SocketFile.bind(str(theirs / "s"))
        assert os.listdir(theirs) == []

        def bind() -> str:
            with bound(theirs / "s"):
                return str(ask(theirs / "s"))

        assert as_user(MALLORY, bind) == "0"


@NEEDS_ROOT
def test_a_folder_that_another_user_makes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another user makes between check and mkdir is refused as well."""
    tmp_path.chmod(0o1777)
    real = os.mkdir

    def faster(path: str, mode: int) -> None:
        real(path, 0o777)
        os.chown(path, MALLORY, MALLORY)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", faster)
    with pytest.raises(SocketError, match=f"belongs to user {MALLORY}"):
        SocketFile.bind(str(tmp_path / "x/s"))
    assert os.listdir(tmp_path / "x") == []


BY_DESCRIPTOR = """
import os, sys
from hub.socketfile import SocketFile

def look(event, args):
    if event in ("os.chmod", "os.chown"):
        assert isinstance(args[0], int) or args[0].startswith("/proc/self/fd/"), args
        seen.append(event)

seen = []
os.umask(0o077)
os.umask = None
sys.addaudithook(look)
file = SocketFile.bind(sys.argv[1], mode=0o664, group="1")
file.permit(0o666, "2")
print(*seen, oct(os.stat(sys.argv[1]).st_mode), os.stat(sys.argv[1]).st_gid)
"""


@NEEDS_ROOT
def test_owner_and_mode_are_set_by_descriptor(tmp_path: Path) -> None:
    """At start and reload chmod and chown get descriptors; the umask is never changed."""
    command = [sys.executable, "-W", "ignore", "-c", BY_DESCRIPTOR, str(tmp_path / "s")]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert ran.stdout == "os.chmod os.chown os.chmod os.chown os.chmod 0o140666 2\n"


@NEEDS_ROOT
@pytest.mark.parametrize("what", ["file", "second name", "symbolic link", "another's socket", "another socket"])
def test_what_comes_to_its_place_is_left_alone(tmp_path: Path, what: str) -> None:
    """A file in place of our socket keeps owner and mode: a root-only file is not given to a group."""
    path, precious = tmp_path / "s", tmp_path / "precious"
    with bound(path) as file:
        known = os.lstat(path)
        path.unlink()
        precious.write_text("secret")
        precious.chmod(0o4711)
        if what in ("another's socket", "another socket"):
            dead_socket(path)
            os.chown(path, ALICE if "'s" in what else 0, 0)
            path.chmod(0o600)
        elif what == "symbolic link":
            path.symlink_to(precious)
        elif what == "second name":
            os.link(precious, path)
        else:
            precious.rename(path)
        before = os.stat(path)
        with pytest.raises(OSError, match="another file has taken its place"):
            permit_file(str(path), 0o666, 1, known=known)
        with pytest.raises(SocketError, match="its file was removed or replaced"):
            file.permit(0o666, "1")
        after = os.stat(path)
        assert (after.st_mode, after.st_gid) == (before.st_mode, before.st_gid)
        path.unlink()


def test_a_second_name_of_another_socket(tmp_path: Path) -> None:
    """Another socket of ours that takes the place of the new one keeps its mode."""
    dead_socket(tmp_path / "other")
    (tmp_path / "other").chmod(0o600)
    os.link(tmp_path / "other", tmp_path / "s~")
    with pytest.raises(OSError, match="another file has taken its place"):
        permit_file(str(tmp_path / "s~"), 0o666, -1)
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o600


def test_a_lock_that_is_a_second_name(tmp_path: Path) -> None:
    """A file at the lock's path that has a second name is refused and keeps its contents."""
    (tmp_path / "precious").write_text("secret")
    os.link(tmp_path / "precious", tmp_path / "s.lock")
    with pytest.raises(SocketError, match="it has a second name"):
        SocketFile.bind(str(tmp_path / "s"))
    assert (tmp_path / "precious").read_text() == "secret"


def test_only_our_own_is_removed(tmp_path: Path) -> None:
    """A file that replaced our socket stays, and so does another hub's socket after our end."""
    path = tmp_path / "s"
    with bound(path):
        path.rename(tmp_path / "moved")
        path.symlink_to("moved")
    assert path.is_symlink()
    path.unlink()
    (tmp_path / "moved").unlink()
    file = SocketFile.bind(str(path))
    path.unlink()
    dead_socket(path)
    file.remove()
    file.close()
    assert path.is_socket()
    with bound(path):
        file.remove()
        file.close()
        assert ask(path) == 0


def test_killed(tmp_path: Path) -> None:
    """A killed hub leaves path and lock to the next, even if its forked child lives on."""
    script = (
        "import os, sys, signal; from hub.socketfile import SocketFile; SocketFile.bind(sys.argv[1])\n"
        "if (child := os.fork()) == 0: signal.pause()\n"
        "print(child, flush=True); signal.pause()"
    )
    command = [sys.executable, "-W", "ignore", "-c", script.replace("SocketFile.bind", "s = SocketFile.bind")]
    with subprocess.Popen([*command, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            # The child shares the listening socket, so the path still answers; the lock is free.
            with pytest.raises(SocketInUse, match=f"process {process.pid} "):
                SocketFile.bind(str(tmp_path / "s"))
            (tmp_path / "s").unlink()
            with bound(tmp_path / "s"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
    with bound(tmp_path / "s"):
        assert ask(tmp_path / "s") == 0


def test_two_hubs_race_for_one_path(tmp_path: Path) -> None:
    """In every round exactly one of two processes gets the path; once it answers it always does, with its mode."""
    with Binder() as one, Binder() as two:
        for turn in range(20):
            path = tmp_path / f"{turn}"
            dead_socket(path)
            path.chmod(0o600)
            first, second = (one, two) if turn % 2 else (two, one)
            first.tell(str(path))
            second.tell(str(path))
            eventually(lambda path=path: ask(path) == 0, "somebody listens")  # type: ignore[misc]
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            refused = [answer for _ in range(50) if (answer := ask(path))]
            answers = sorted((one.answer(), two.answer()))
            refused += [answer for _ in range(50) if (answer := ask(path))]
            assert answers[1] == "listening"
            assert "is already listening there" in answers[0]
            assert refused == []
            for binder in (one, two):
                assert binder.bind("") == "free"
            assert not path.exists()


@contextmanager
def made(path: str | Path) -> Iterator[socket.socket]:
    """A listening socket, as systemd makes it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        os.chmod(path, 0o604)
        sock.listen()
        sock.setblocking(False)
        yield sock


def test_an_adopted_socket_stays(tmp_path: Path) -> None:
    """An adopted socket keeps its path, mode and backlog after our end, and has no lock."""
    with made(tmp_path / "s") as sock:
        file = SocketFile.adopt(sock.dup())
        assert (file.path, file.is_kept) == (str(tmp_path / "s"), True)
        file.permit(0o600, None)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(file.path)
            client.sendall(b"wait")
            file.remove()
            file.close()
            file.close()
            assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o604
            accepted, _ = sock.accept()
            with accepted:
                assert accepted.recv(9) == b"wait"
        assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("what", ["nothing", "another"])
def test_an_adopted_socket_that_lost_its_path(what: str, tmp_path: Path) -> None:
    """If its path is gone or replaced, its backlog is ours to accept; a replacement is left alone."""
    with made(tmp_path / "s") as sock:
        file = SocketFile.adopt(sock.dup())
        (tmp_path / "s").unlink()
        if what == "another":
            dead_socket(tmp_path / "s")
        assert not file.is_kept
        file.remove()
        file.close()
    assert (tmp_path / "s").exists() == (what == "another")


def test_a_bound_socket_is_not_kept(tmp_path: Path) -> None:
    """A socket that we bound ends with us."""
    with bound(tmp_path / "s") as file:
        assert not file.is_kept


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_adopted() -> None:
    """A socket without a file is always kept, and its name is written with an @."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0mpsr-adopt-{os.getpid()}")
        sock.listen()
        file = SocketFile.adopt(sock)
        assert (file.path, file.is_kept) == (f"@mpsr-adopt-{os.getpid()}", True)
        file.remove()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_bound() -> None:
    """There is no file and nothing to permit; after `remove`, waiting clients are served, and no others can connect."""
    name = f"@mpsr-bind-{os.getpid()}"
    file = SocketFile.bind(name)
    assert (file.path, file.is_abstract, file.is_adopted, file.is_kept, file.is_lost) == (
        name,
        True,
        False,
        False,
        False,
    )
    file.permit(0o600, None)
    with pytest.raises(SocketInUse) as raised:
        SocketFile.bind(name)
    assert raised.value.pid == os.getpid()
    with socket.socket(socket.AF_UNIX) as waiting, socket.socket(socket.AF_UNIX) as late:
        waiting.connect(f"\0{name[1:]}")
        waiting.sendall(b"hello")
        file.sock.accept()[0].close()  # the one that asked who has the name
        file.remove()
        with pytest.raises(ConnectionRefusedError):
            late.connect(f"\0{name[1:]}")
        with file.sock.accept()[0] as ours:
            assert ours.recv(5) == b"hello"
        with pytest.raises(BlockingIOError):
            file.sock.accept()
    file.close()
    SocketFile.bind(name).close()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is too long, a group, or a kernel without such names is an error that says what to do."""
    with pytest.raises(SocketPathTooLong):
        SocketFile.bind("@" + "x" * PATH_BYTES_MAX)
    with pytest.raises(SocketError, match="has no group"):
        SocketFile.bind("@mpsr", group="root")
    name = f"@mpsr-raw-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:  # who has it cannot be asked
        other.bind(f"\0{name[1:]}")
        SocketFile.bind(name).close()  # kinds have names of their own
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"\0{name[1:]}")
        with pytest.raises(SocketInUse, match="another process"):
            SocketFile.bind(name)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SocketError, match=r"only Linux has abstract names: choose a path"):
        SocketFile.bind(name)


def test_clients_cannot_pass_descriptors(tmp_path: Path) -> None:
    """Closing what a client passes could hold up the hub for as long as the client likes: the kernel refuses it."""
    path = str(tmp_path / "s")
    made = socket.socket(socket.AF_UNIX)
    made.bind(path + "2")
    made.listen()
    made.setblocking(False)
    for file in (SocketFile.bind(path), SocketFile.adopt(made)):
        try:
            file.sock.getsockopt(socket.SOL_SOCKET, 83)
        except OSError:
            pytest.skip("needs a newer kernel: before 6.16 it cannot refuse descriptors")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(file.path)
            for is_accepted in (False, True):
                with pytest.raises(PermissionError):
                    socket.send_fds(client, [b"x"], [0])
                if not is_accepted:
                    accepted, _ = file.sock.accept()
            client.sendall(b"x")
            assert accepted.recv(2) == b"x"
            accepted.close()
        file.close()


@pytest.mark.parametrize("removed", ["s", "s s.lock", ". s s.lock"])
def test_a_lost_file_is_bound_anew(tmp_path: Path, removed: str) -> None:
    """The path answers again, with the mode that is given, also if the lock or the folder went with it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with bound(folder / "s") as file:
        assert not file.is_lost
        for name in reversed(removed.split()):
            (folder / name).rmdir() if name == "." else (folder / name).unlink()
        assert file.is_lost
        assert ask(folder / "s") == errno.ENOENT
        former = file.listen_again(0o600, None)
        assert not file.is_lost
        assert ask(folder / "s") == 0
        assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o600
        assert former.fileno() not in (-1, file.sock.fileno())
        former.close()
        with Binder() as binder:
            assert f"process {os.getpid()} is already listening there" in binder.bind(folder / "s")
        file.remove()
        assert sorted(os.listdir(folder)) == ["s.lock"]


def test_a_lost_file_whose_place_is_taken(tmp_path: Path) -> None:
    """Another hub that has the path since keeps it, and a file there stays; the former socket is still in use."""
    path = tmp_path / "s"
    with bound(path) as file, Binder() as binder:
        path.unlink()
        (tmp_path / "s.lock").unlink()
        assert binder.bind(path) == "listening"
        assert file.is_lost
        with pytest.raises(SocketInUse, match=f"process {binder.process.pid} is already listening there"):
            file.listen_again(0o660, None)
        assert file.sock.fileno() != -1
        file.remove()
        assert ask(path) == 0
        binder.bind("")
        path.write_text("precious")
        assert file.is_lost
        with pytest.raises(NotASocket):
            file.listen_again(0o660, None)
        assert path.read_text() == "precious"


def test_who_cannot_know_whether_it_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket without a file is never lost, and neither is one whose folder may not be looked into."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0{tmp_path}")
        assert not SocketFile.adopt(sock).is_lost
    with bound(tmp_path / "s") as file:

        def refuse(path: str) -> os.stat_result:
            raise PermissionError(errno.EACCES, "no", path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", refuse)
            assert not file.is_lost
