"""Paths and names: lifecycle 1, 2, 11, 12."""

import os
import sys

import pytest

from skerry import paths
from skerry.errors import UsageError


@pytest.fixture
def ordinary_user(monkeypatch):
    monkeypatch.setattr("posix.geteuid", lambda: 1000)


@pytest.fixture
def runtime_dir(monkeypatch):
    def set_to(value):
        monkeypatch.setitem(__import__("posix").environ, b"XDG_RUNTIME_DIR", value)

    return set_to


@pytest.mark.parametrize(
    ("value", "root"),
    [
        ("", "/run/skerry/default"),
        ("default", "/run/skerry/default"),
        ("k8s.io", "/run/skerry/k8s.io"),
        ("/var/run/x", "/var/run/x"),
        ("/var//run/./x/", "/var/run/x"),
        ("/a/../b", "/a/../b"),  # what .. means is the kernel's to say
    ],
)
def test_root_by_name_or_path_lifecycle_1_2(value, root):
    assert paths.run_root(value) == root


def test_a_relative_root_is_made_absolute_lifecycle_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.run_root("./x") == f"{tmp_path}/x"
    assert paths.run_root("x/y") == f"{tmp_path}/x/y"


@pytest.mark.parametrize("value", ["/", "//", "/.", "/..", "/a/..", "/a/b/../../../"])
def test_the_root_of_the_host_is_refused_lifecycle_2(value):
    with pytest.raises(UsageError, match="^Option --root argument should not be set to /$"):
        paths.run_root(value)


@pytest.mark.parametrize("value", [".", "..", "a\0b"])
def test_what_is_no_name_is_refused(value):
    with pytest.raises(UsageError, match="^invalid root"):
        paths.run_root(value)


def test_rootless_below_the_runtime_directory_lifecycle_1(ordinary_user, runtime_dir):
    runtime_dir(b"/run/user/1000/")
    assert paths.run_root() == "/run/user/1000/skerry/default"
    assert paths.run_root("x") == "/run/user/1000/skerry/x"


@pytest.mark.parametrize("value", [b"", b"relative/dir"])
def test_rootless_without_a_runtime_directory(ordinary_user, runtime_dir, value):
    runtime_dir(value)
    with pytest.raises(UsageError, match="XDG_RUNTIME_DIR"):
        paths.run_root()
    assert paths.run_root("/a/b") == "/a/b"  # a path needs no such variable


def test_root_ignores_the_variable_as_root(runtime_dir):
    """P06: root's containers are where root's containers are."""
    runtime_dir(b"/tmp/elsewhere")
    assert paths.run_root() == "/run/skerry/default"


# The ids that the command line takes are their own names.
@pytest.mark.parametrize("id", ["a", "A_9+-.z", ".x", "...", "lock", "x" * 255])
def test_plain_ids_are_their_names_lifecycle_11(id):
    assert paths.id_name(id) == id
    assert paths.name_id(id) == id
    assert paths.state_dir("/r", id) == f"/r/{id}"


@pytest.mark.parametrize(
    ("id", "name"),
    [
        (".", "%2E"),
        ("..", "%2E."),
        ("%", "%25"),
        ("a/b", "a%2Fb"),
        ("@boot", "%40boot"),
        ("ä", "%C3%A4"),
        ("\udcff", "%ED%B3%BF"),
        ("a b", "a%20b"),
    ],
)
def test_other_ids_are_escaped_lifecycle_11_12(id, name):
    assert paths.id_name(id) == name
    assert paths.name_id(name) == id


def test_every_short_id_has_one_name_lifecycle_11():
    characters = "a%2fF/@.é\udc80\0\n"
    ids = {x + y + z for x in characters for y in characters + " " for z in characters}
    names = {paths.id_name(id) for id in ids}
    assert len(names) == len(ids)
    for id in ids:
        name = paths.id_name(id)
        assert paths.name_id(name) == id
        assert not name.startswith("@") and "/" not in name and name not in (".", "..")
        assert name.isascii() and name.isprintable()


def test_a_long_id_has_a_name_that_fits_lifecycle_11():
    names = {paths.id_name(c * 100_000) for c in "ab/@"}
    assert len(names) == 4
    for name in names:
        assert len(name) <= 255
        assert paths.name_id(name) == ""  # the id stands in a file
    # The first that does not fit, and the last that does
    assert paths.id_name("/" * 85) == "%2F" * 85
    assert paths.id_name("/" * 86).startswith("%%")


@pytest.mark.parametrize("name", ["%", "%2", "%2f", "%41", "%zz", "% 41", "%ff", "a b", "ä", "%%x"])
def test_what_is_no_name_of_ours_stands_for_no_id_lifecycle_10(name):
    assert paths.name_id(name) is None


def test_the_installation_is_found_where_the_package_lies():
    assert paths.install_root() in [os.path.abspath(entry) for entry in sys.path]
    assert paths.init_path() == f"{paths.install_root()}/skerry/skerry-init"
    assert paths.version() == paths.VERSION
