"""Where storages may be made (V50): below their own directory, through no link and no other mount."""

import base64
import os

import pytest

from skerry.agent.storage import Storages
from skerry.errors import EngineError, KernelError


@pytest.fixture
def place(tmp_path):
    storages = Storages("box", root=str(tmp_path))
    yield storages, tmp_path / "box"
    storages.close()


def file(at: str, content: bytes = b"content") -> dict:
    return {"kind": "file", "mode": 0o640, "content": base64.b64encode(content).decode(), "at": at}


def test_a_file(place):
    storages, where = place
    storages.mount(file("deep/er/name"))
    assert (where / "deep/er/name").read_bytes() == b"content"
    assert (where / "deep/er/name").stat().st_mode & 0o7777 == 0o640


def test_a_link_and_a_file_through_it(place, tmp_path):
    storages, where = place
    outside = tmp_path / "outside"
    outside.mkdir()
    (where / "link").symlink_to(outside)
    for at in ("link/x", "link/deep/x"):
        with pytest.raises(EngineError, match="ENOTDIR|ELOOP"):
            storages.mount(file(at))
    with pytest.raises(EngineError, match="ENOTDIR|ELOOP"):
        storages.mount({"kind": "directory", "at": "link"})
    assert not any(outside.iterdir())


def test_a_file_in_place_of_a_link(place, tmp_path):
    storages, where = place
    outside = tmp_path / "outside"
    (where / "link").symlink_to(outside)
    with pytest.raises(EngineError, match="EEXIST"):
        storages.mount(file("link"))
    assert not outside.exists()


def test_the_container_s_own_name_is_checked(tmp_path):
    for name in ("..", ".", "", "a/b", "a\0b"):
        with pytest.raises(EngineError):
            Storages(name, root=str(tmp_path))


@pytest.mark.parametrize("at", ["", "/", "/x", "x/", "x//y", "../x", "x/../y", ".", "x\0y", "a:b", "a,b", "a\\b"])
def test_names_that_are_none(place, at):
    with pytest.raises(EngineError):
        place[0].mount({"kind": "directory", "at": at})


@pytest.mark.parametrize("document", [{}, {"kind": "disk"}, {"kind": "x", "at": "y"}, {"kind": "file", "at": 7}])
def test_documents_that_are_none(place, document):
    with pytest.raises((EngineError, KeyError)):
        place[0].mount(document)


def test_a_file_has_a_limit(place):
    with pytest.raises(EngineError, match="too long"):
        place[0].mount(file("big", b"x" * (1024 * 1024 + 1)))
    place[0].mount(file("big", b"x" * (1024 * 1024)))


def test_release_removes_what_was_made_and_follows_nothing(place, tmp_path):
    storages, where = place
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    storages.mount(file("a/b"))
    os.symlink(outside, where / "a/link")
    storages.release()
    assert not where.exists()
    assert (outside / "kept").exists()


def test_release_twice_is_an_error_that_says_what(place):
    storages, where = place
    storages.release()
    with pytest.raises(KernelError, match=str(where)):
        storages.release()
