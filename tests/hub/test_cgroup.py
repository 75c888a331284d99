"""hub.cgroup: unit and container by the paths that systemd and the container engines make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cgroup import CGROUP_BYTES_MAX, container_of, parse_cgroup, unit_of

ID = "0123456789abcdef" * 4
OTHER_ID = "f" * 64


@pytest.mark.parametrize(
    ("cgroup", "unit", "container"),
    [
        ("", "", ""),
        ("/", "", ""),
        ("/system.slice/nginx.service", "nginx.service", ""),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", ""),
        ("/system.slice/web.service/worker", "web.service", ""),
        ("/user.slice/user-1000.slice/session-2.scope", "session-2.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/jobs.service", "jobs.service", ""),
        ("/system.slice/_cgroup.odd.service", "cgroup.odd.service", ""),
        ("/system.slice", "", ""),
        (f"/docker/{ID}", "", ID),
        (f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope", ID),
        (f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope", ID),
        (f"/kubepods/besteffort/pod1b2c/{ID}", "", ID),
        (
            f"/kubepods.slice/kubepods-pod1b2c.slice/cri-containerd-{ID}.scope",
            f"cri-containerd-{ID}.scope",
            ID,
        ),
        (f"/system.slice/containerd.service/kubepods:cri-containerd:{ID}", "containerd.service", ID),
        (f"/docker/{OTHER_ID}/docker/{ID}", "", ID),  # a container in a container: the inner one
        ("/lxc.payload.web/system.slice/app.service", "app.service", "web"),
        ("/lxc/web", "", "web"),
        ("/machine.slice/machine-deb.scope", "machine-deb.scope", "deb"),
        ("/machine.slice/systemd-nspawn@deb.service", "systemd-nspawn@deb.service", "deb"),
        (f"/odd/{ID}0", "", ""),  # too long for an id
        (f"/odd/{ID[:-1]}", "", ""),
    ],
)
def test_what_a_path_says(cgroup: str, unit: str, container: str) -> None:
    assert (unit_of(cgroup), container_of(cgroup)) == (unit, container)


@pytest.mark.parametrize(
    ("data", "cgroup"),
    [
        (b"", ""),
        (b"0::/system.slice/nginx.service\n", "/system.slice/nginx.service"),
        (b"0::/\n", ""),
        (b"9:pids:/a\n1:name=systemd:/system.slice/b.service\n0::/c\n", "/c"),
        (b"9:pids:/a\n1:name=systemd:/system.slice/b.service\n0::/\n", "/system.slice/b.service"),
        (b"4:memory:/a:b\n3:cpuset:/\n0::/\n", "/a:b"),
        (b"nonsense\n\n:\n::\n0::/x\n", "/x"),
        (b"0::/" + b"x" * (CGROUP_BYTES_MAX - 1), "/" + "x" * (CGROUP_BYTES_MAX - 1)),
        (b"0::/" + b"x" * CGROUP_BYTES_MAX, ""),
        (b"0::/\xff", "/\ufffd"),
    ],
)
def test_the_path_that_counts(data: bytes, cgroup: str) -> None:
    assert parse_cgroup(data) == cgroup


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    cgroup = parse_cgroup(data)
    assert len(unit_of(cgroup)) <= len(cgroup)
    assert len(container_of(cgroup)) <= len(cgroup)
