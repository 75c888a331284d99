"""hub.secretfile: a file is refused if other users could read or change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.secretfile import CERTIFICATES_BYTES_MAX, SECRET_BYTES_MAX, Unusable, check_certificates, read_secret, stamp_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"secret\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_secret(file: Path, mode: int) -> None:
    """A file of ours is read if at most its group can read it, too. The newline at its end is no part of the secret."""
    file.chmod(mode)
    assert read_secret(str(file)) == b"secret"
    file.chmod(0o600)
    file.write_bytes(b" \xff\n\xfe ")
    assert read_secret(str(file)) == b" \xff\n\xfe "


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o601, 0o644])
def test_others_could_read_it(file: Path, mode: int) -> None:
    """A file that others can read or change is refused, with what to do."""
    file.chmod(mode)
    with pytest.raises(Unusable, match=r"can be read or changed by other users \(chmod 600, or 640 for a group\)"):
        read_secret(str(file))


def test_what_is_no_secret(file: Path, tmp_path: Path) -> None:
    """Nothing, a folder, an empty file, a file that is too large: each is a sentence that names the file."""
    for path, said in ((tmp_path / "absent", "No such file or directory"), (tmp_path, "is not a file")):
        with pytest.raises(Unusable, match=f"{path}:? {said}"):
            read_secret(str(path))
    file.write_bytes(b"\n")
    with pytest.raises(Unusable, match="is empty"):
        read_secret(str(file))
    file.write_bytes(b"x" * (SECRET_BYTES_MAX + 1))
    with pytest.raises(Unusable, match=f"more than {SECRET_BYTES_MAX} bytes"):
        read_secret(str(file))


def test_a_folder_of_another_user(tmp_path: Path) -> None:
    """Where another user could replace the file, it is refused."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "key").write_bytes(b"x")
    (folder / "key").chmod(0o600)
    with pytest.raises(Unusable, match=r"open can be written by everybody \(another user could replace the file\)"):
        read_secret(str(folder / "key"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a file away")
def test_a_file_of_another_user(file: Path) -> None:
    """The owner of the file could change the secret."""
    os.chown(file, 4711, -1)
    with pytest.raises(Unusable, match="belongs to user 4711"):
        read_secret(str(file))


def test_it_is_replaced_in_between(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is read is the file that was checked; one that cannot be read any more is an error."""
    monkeypatch.setattr("hub.secretfile.check_secret", lambda _: None)
    file.chmod(0o644)
    with pytest.raises(Unusable, match="can be read"):
        read_secret(str(file))
    file.unlink()
    with pytest.raises(Unusable, match="No such file"):
        read_secret(str(file))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444])
def test_certificates(file: Path, mode: int) -> None:
    """Certificates are no secret."""
    file.chmod(mode)
    check_certificates(str(file))


def test_certificates_of_others(file: Path, tmp_path: Path) -> None:
    """What others could change is refused; so is what is no file, unopened, or what is too large to be certificates."""
    for mode in (0o664, 0o646):
        file.chmod(mode)
        with pytest.raises(Unusable, match=r"can be changed by other users \(chmod 644\)"):
            check_certificates(str(file))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Unusable, match=r"pipe is not a file$"):
        check_certificates(str(pipe))
    file.chmod(0o644)
    os.truncate(file, CERTIFICATES_BYTES_MAX + 1)
    with pytest.raises(Unusable, match=f"more than {CERTIFICATES_BYTES_MAX} bytes"):
        check_certificates(str(file))
    tmp_path.chmod(0o777)
    with pytest.raises(Unusable, match=r"can be written by everybody \(another user could replace the file\)"):
        check_certificates(str(file))


def test_a_file_that_changes(tmp_path: Path) -> None:
    """The stamp is another one when a file was changed, replaced, or removed."""
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    stamps = [stamp_of(str(path))]
    assert stamp_of(str(path)) == stamps[0]
    path.chmod(0o600)
    stamps.append(stamp_of(str(path)))
    os.utime(path, ns=(1, 1))
    stamps.append(stamp_of(str(path)))
    (tmp_path / "new").write_bytes(b"secret")
    (tmp_path / "new").replace(path)
    stamps.append(stamp_of(str(path)))
    path.unlink()
    stamps.append(stamp_of(str(path)))
    assert len(set(stamps)) == 5
