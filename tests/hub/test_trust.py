"""hub.trust: which users could replace a path, with real users and real folders."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from hub.trust import LINKS_MAX, Untrusted, check, check_folder, check_name, check_peer, peer_uid
from tests.users import ALICE, HUB, MALLORY, NEEDS_ROOT, as_user, open_folder

pytestmark = NEEDS_ROOT
T = TypeVar("T")
DAEMON = pwd.getpwnam("daemon").pw_uid  # a user whose private group is in the database


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder of root's that every user can enter."""
    with open_folder() as path:
        yield path


def make(root: Path, *things: str) -> str:
    """
    Make *things*, and return the path of the last.

    Each is ``NAME/ OWNER MODE`` for a folder, ``NAME OWNER MODE`` for a file, ``NAME OWNER > TARGET`` for a link.
    """
    path = root
    for thing in things:
        name, owner, mode, *target = thing.split()
        path = root / name
        if target:
            path.symlink_to(target[0])
        elif name.endswith("/"):
            path.mkdir()
        else:
            path.touch()
        os.chown(path, int(owner), int(owner), follow_symlinks=False)
        if not target:
            path.chmod(int(mode, 8))
    return str(path)


def verdict(path: str, *, is_client: bool) -> str:
    """Return why *path* is refused, or which users could replace it."""
    found = refusal(lambda: check(path, is_client=is_client))
    if isinstance(found, Untrusted):
        return f"{Path(found.place).name} {found.reason}"
    return " ".join(map(str, sorted(found.owners)))


def refusal(function: Callable[[], T]) -> Untrusted | T:
    """Return the refusal, or what *function* returns."""
    try:
        return function()
    except Untrusted as error:
        return error


SHARED = "in a folder that others can write to"
OF_HUB = f"belongs to user {HUB}"
WE = f"0 {ALICE}"
TMP = "t/ 0 1777"
CASES: list[tuple[list[str], str, str]] = [
    # what is made; the verdict of Alice's client on the last item, and of her hub
    (["x/ 0 755", "x/s 0 600"], WE, WE),
    ([f"x/ {ALICE} 700", f"x/s {ALICE} 600"], WE, WE),
    ([f"x/ {ALICE} 755", f"x/s {MALLORY} 600"], WE, WE),  # put there by a user who may do so
    (["x/ 0 777", f"x/s {ALICE} 600"], "x can be written by everybody", ""),
    ([f"x/ {ALICE} 777", f"x/s {ALICE} 600"], "x can be written by everybody", ""),
    ([f"x/ {ALICE} 775", f"x/s {ALICE} 600"], f"x can be written by its group ({ALICE})", ""),
    (["x/ 0 777", f"x/y/ {ALICE} 700"], "x can be written by everybody", ""),
    # In a sticky folder.
    ([TMP, f"t/s {ALICE} 600"], WE, WE),
    ([TMP, "t/s 0 600"], WE, WE),
    ([TMP, f"t/s {MALLORY} 600"], f"s belongs to user {MALLORY}, {SHARED}", ""),
    ([TMP, f"t/x/ {ALICE} 700", f"t/x/s {ALICE} 600"], WE, WE),
    ([TMP, f"t/x/ {MALLORY} 755", "t/x/s 0 600"], f"x belongs to user {MALLORY}, {SHARED}", ""),
    ([TMP, f"t/x/ {MALLORY} 777", "t/x/s 0 600"], f"x belongs to user {MALLORY}, {SHARED}", ""),
    ([f"t/ {ALICE} 1775", f"t/x/ {MALLORY} 755"], f"x belongs to user {MALLORY}, {SHARED}", ""),
    (["t/ 0 1775", f"t/x/ {MALLORY} 755"], f"{WE} {MALLORY}", f"x belongs to user {MALLORY}"),  # root's private group
    # A third user.
    ([f"x/ {HUB} 2750", f"x/s {HUB} 660"], f"{WE} {HUB}", f"x {OF_HUB}"),
    ([f"x/ {HUB} 755", f"x/y/ {HUB} 755", f"x/y/s {HUB} 660"], f"{WE} {HUB}", f"x {OF_HUB}"),
    ([f"x/ {HUB} 755", f"x/y/ {MALLORY} 755"], f"y belongs to user {MALLORY}", f"x {OF_HUB}"),
    ([f"x/ {HUB} 757", f"x/s {HUB} 660"], "x can be written by everybody", f"x {OF_HUB}"),
    ([f"x/ {HUB} 775", f"x/s {HUB} 660"], f"x can be written by its group ({HUB})", f"x {OF_HUB}"),
    ([f"x/ {HUB} 1777", f"x/s {HUB} 660"], f"{WE} {HUB}", f"x {OF_HUB}"),
    ([f"x/ {HUB} 1777", f"x/s {MALLORY} 6"], f"s belongs to user {MALLORY}, {SHARED}", f"x {OF_HUB}"),
    ([f"x/ {HUB} 755", "x/y/ 0 755", f"x/y/z/ {MALLORY} 755"], f"z belongs to user {MALLORY}", f"x {OF_HUB}"),
    # Links.
    (["x/ 0 755", f"l {MALLORY} > x"], WE, WE),
    (["x/ 0 755", TMP, "t/l 0 > ../x"], WE, WE),
    (["x/ 0 755", TMP, f"t/l {ALICE} > ../x"], WE, WE),
    (["x/ 0 755", TMP, f"t/l {MALLORY} > ../x"], f"l belongs to user {MALLORY}, {SHARED}", ""),
    (["x/ 0 755", f"y/ {HUB} 755", f"y/l {HUB} > ../x"], f"l is a link in a folder of user {HUB}", f"y {OF_HUB}"),
    ([TMP, f"t/m/ {MALLORY} 755", "l 0 > ./t/../t/m"], f"m belongs to user {MALLORY}, {SHARED}", ""),
    (["x/ 0 777", "x/y/ 0 755", "l 0 > x/y"], "x can be written by everybody", ""),
    (["x/ 0 777", "y/ 0 755", "l 0 > x/../y"], "x can be written by everybody", ""),
]  # fmt: skip


@pytest.mark.parametrize(("things", "of_client", "of_hub"), CASES)
def test_who_could_replace_it(root: Path, things: list[str], of_client: str, of_hub: str) -> None:
    """Each folder and link on the way counts, for a client and for a hub."""
    path = make(root, *things)
    assert as_user(ALICE, lambda: verdict(path, is_client=True), groups=[HUB]) == of_client
    assert as_user(ALICE, lambda: verdict(path, is_client=False), groups=[HUB]) == (of_hub or of_client)


def test_root_is_no_exception(root: Path) -> None:
    """Root's hub refuses a user's folder; root's client accepts it where only root can have put it, and not in /tmp."""
    path = make(root, f"x/ {ALICE} 700", f"x/s {ALICE} 600")
    assert verdict(path, is_client=False) == f"x belongs to user {ALICE}"
    assert verdict(path, is_client=True) == WE
    path = make(root, TMP, f"t/x/ {ALICE} 700", f"t/x/s {ALICE} 600")
    assert verdict(path, is_client=True) == f"x belongs to user {ALICE}, {SHARED}"


def test_what_does_not_exist(root: Path) -> None:
    """
    A path is checked as far as it exists; a file in place of a folder, a loop of links and a null character are errors.
    """
    assert check(f"{root}/a/b/s").described is None
    assert check(f"{root}/../{root.name}/a").described is None
    make(root, "t/ 0 777", f"t/x/ {ALICE} 700")
    assert as_user(ALICE, lambda: verdict(f"{root}/t/a/b", is_client=True)) == "t can be written by everybody"
    (root / "file").touch()
    with pytest.raises(NotADirectoryError):
        check(f"{root}/file/s")
    (root / "loop").symlink_to("loop/x")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        check(f"{root}/loop")
    with pytest.raises(OSError, match="null"):
        check("\0abstract")


def test_as_many_links_as_the_kernel_follows(root: Path) -> None:
    """A chain of links is followed exactly as far as the kernel follows it."""
    (root / "0").touch()
    for number in range(LINKS_MAX + 1):
        (root / f"{number + 1}").symlink_to(f"{number}")
    described = check(f"{root}/{LINKS_MAX}").described
    assert described is not None
    assert stat.S_ISREG(described.st_mode)
    for look in (check, os.stat):
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            look(f"{root}/{LINKS_MAX + 1}")


def test_a_relative_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts at the current folder, whose own path is checked, too."""
    make(root, "t/ 0 777", f"t/x/ {ALICE} 755", f"t/x/s {ALICE} 600")
    monkeypatch.chdir(root / "t/x")
    assert as_user(ALICE, lambda: verdict("s", is_client=True)) == "t can be written by everybody"


def test_a_private_group(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The group with its user's name and no other member may write; with another member, or an access control list, it may
    not.
    """
    path = make(root, f"x/ {DAEMON} 775")
    refused = f"x can be written by its group ({DAEMON})"
    assert as_user(DAEMON, lambda: verdict(path, is_client=False)) == f"0 {DAEMON}"
    assert as_user(ALICE, lambda: verdict(path, is_client=True)) == f"0 {DAEMON} {ALICE}"
    with monkeypatch.context() as patch:
        group = grp.struct_group(("daemon", "x", DAEMON, ["daemon", "mallory"]))
        patch.setattr(grp, "getgrgid", lambda _: group)
        assert as_user(DAEMON, lambda: verdict(path, is_client=False)) == refused
    # user, the user Mallory, group, mask, others: the mode is the same as before
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, MALLORY), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("this file system has no access control lists")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o775
    assert as_user(DAEMON, lambda: verdict(path, is_client=False)) == refused


def test_links_that_lie(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel finds another file than the links name, as below /proc/PID/root, nothing is trusted."""
    (root / "a").mkdir()
    (root / "b").mkdir()
    (root / "l").symlink_to("a")
    assert check(f"{root}/l").described is not None
    monkeypatch.setattr(os, "readlink", lambda _: "b")
    with pytest.raises(Untrusted, match="does not lead where its links say"):
        check(f"{root}/l")


@pytest.mark.parametrize(
    ("owner", "mode", "reason"),
    [
        (HUB, 0o3730, ""),
        (0, 0o755, ""),
        (MALLORY, 0o700, f"belongs to user {MALLORY}"),
        (HUB, 0o3732, "can be written by everybody"),
        (HUB, 0o730, f"can be written by its group ({HUB})"),
    ],
)
def test_an_open_folder(root: Path, owner: int, mode: int, reason: str) -> None:
    """It must belong to one of the owners; its group may write to it if it is sticky, others never may."""
    folder = root / "x"
    folder.mkdir()
    os.chown(folder, owner, HUB)
    folder.chmod(mode)
    found = refusal(lambda: check_folder(str(folder), folder.stat(), {0, HUB}))
    assert (found.reason if found is not None else "") == reason


def test_who_answers(root: Path) -> None:
    """The listening process must belong to the owner of the socket's file, or to root."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "s"))
        (root / "s").chmod(0o666)
        refused = "s is the socket of user {}, but a process of user {} listens there"
        for listener, owner in [(0, HUB), (HUB, HUB), (MALLORY, HUB), (MALLORY, 0)]:
            expected = "None" if listener in (0, owner) else refused.format(owner, listener)
            os.seteuid(listener)
            listening.listen()
            os.seteuid(0)

            def ask(listener: int = listener, owner: int = owner) -> str:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(root / "s"))
                    found = refusal(lambda: check_peer(client, "s", owner))
                    assert peer_uid(client) == listener
                    return str(found)

            assert as_user(ALICE, ask) == expected


def test_who_has_an_abstract_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of root or of our user may have it; any other user could have taken it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        check_name(ours, "@mpsr")
        for uid, is_trusted in ((0, True), (os.geteuid(), True), (None, True), (54321, False)):
            monkeypatch.setattr("hub.trust.peer_uid", lambda _, uid=uid: uid)
            if is_trusted:
                check_name(ours, "@mpsr")
            else:
                with pytest.raises(Untrusted, match="@mpsr is an abstract name that a process of user 54321 has taken"):
                    check_name(ours, "@mpsr")
