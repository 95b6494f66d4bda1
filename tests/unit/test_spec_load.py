"""Loading documents: lifecycle 34; security.md section 8, "config file"."""

import os
from pathlib import Path

import pytest

from skerry.errors import KernelError, SpecError
from skerry.spec import load


def test_reads_the_bundle_s_config(tmp_path: Path) -> None:
    data = b'{"ociVersion": "1.0.2", "x": "\xc3\xa9"}\n'
    (tmp_path / "config.json").write_bytes(data)
    (tmp_path / "other.json").write_bytes(b"{}")
    assert load.load_bundle(str(tmp_path)) == ({"ociVersion": "1.0.2", "x": "é"}, data)
    assert load.load_bundle(f"{tmp_path}/")[1] == data
    assert load.load_bundle(str(tmp_path), config="other.json") == ({}, b"{}")
    assert load.load_process(str(tmp_path / "other.json")) == {}
    assert load.load_resources(str(tmp_path / "other.json")) == {}


def test_no_config(tmp_path: Path) -> None:
    """lifecycle 34."""
    for bundle in (str(tmp_path), str(tmp_path / "missing"), "a\0b"):
        with pytest.raises(SpecError) as caught:
            load.load_bundle(bundle)
        words = "JSON specification file config.json not found"
        assert str(caught.value).startswith(words)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"5", b'"x"', b"{", b"{}x"])
def test_documents_that_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(SpecError, match=r"^config\.json: "):
        load.load_bundle(str(tmp_path))


def test_files_that_are_none(tmp_path: Path) -> None:
    """A FIFO must not hang, a device must not be read."""
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(SpecError, match="not a regular file"):
        load.load_bundle(str(tmp_path))
    path.unlink()
    path.mkdir()
    with pytest.raises(SpecError, match="not a regular file"):
        load.load_bundle(str(tmp_path))
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(SpecError, match="not a regular file"):
        load.load_bundle(str(tmp_path))
    path.unlink()
    path.symlink_to("config.json")
    with pytest.raises(KernelError, match="ELOOP"):
        load.load_bundle(str(tmp_path))


def test_size_is_capped(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a":"' + b"x" * (load.LIMIT_BYTES - 8) + b'"}')
    assert path.stat().st_size == load.LIMIT_BYTES
    load.load_bundle(str(tmp_path))
    with path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(SpecError, match="larger than 8 MiB"):
        load.load_bundle(str(tmp_path))
    os.truncate(path, 1 << 40)
    with pytest.raises(SpecError, match="larger than 8 MiB"):
        load.load_process(str(path))


def test_resources_from_stdin() -> None:
    saved = os.dup(0)
    reader, writer = os.pipe()
    try:
        os.write(writer, b'{"pids": {"limit": 5}}')
        os.close(writer)
        os.dup2(reader, 0)
        assert load.load_resources("-") == {"pids": {"limit": 5}}
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(reader)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    with pytest.raises(SpecError, match=r"process\.json not found"):
        load.load_process(str(path))
    path.write_bytes(b'{"a":1,"a":2}')
    with pytest.raises(SpecError) as caught:
        load.load_process(str(path))
    assert caught.value.pointer == "/a"
    with pytest.raises(KernelError, match="ENOTDIR"):
        load.load_process(f"{path}/x")
