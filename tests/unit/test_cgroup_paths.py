"""native/cgroup/tree.py: which hierarchies there are, and where a container's cgroup is in them."""

import os

import pytest

from skerry.errors import EngineError, Error, SpecError
from skerry.native.cgroup import tree


class Host:
    """A fake host: directories below tmp as mount points, and the two tables of /proc that name
    them."""

    def __init__(self, tmp_path):
        self.root = tmp_path
        self.mounts, self.own = [], []
        device = os.stat(tmp_path).st_dev
        self.device = f"{os.major(device)}:{os.minor(device)}"

    def mount(self, name, kind, options, *, root="/", device=""):
        point = self.root / name
        point.mkdir(parents=True, exist_ok=True)
        line = f"1 2 {device or self.device} {root} {point} rw - {kind} {kind} rw,{options}"
        self.mounts.append(line.rstrip(","))
        return point

    def layout(self):
        mounts, own = self.root / "mountinfo", self.root / "cgroup"
        mounts.write_text("".join(f"{line}\n" for line in self.mounts))
        own.write_text("".join(f"{line}\n" for line in self.own))
        return tree.read_layout(str(mounts), str(own))


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def v1(host):
    host.mount("cpu", "cgroup", "cpu,cpuacct")
    host.mount("memory", "cgroup", "memory")
    host.mount("systemd", "cgroup", "xattr,name=systemd")
    host.own = ["3:cpu,cpuacct:/own", "2:memory:/", "1:name=systemd:/own/deep"]
    return host


@pytest.fixture
def v2(host):
    point = host.mount("top", "cgroup2", "nsdelegate")
    (point / "cgroup.controllers").write_text("cpu memory pids\n")
    host.own = ["0::/user/session"]
    return host


def test_v1_controllers_share_a_mount(v1):
    layout = v1.layout()
    assert layout.kind == "v1" and layout.unified == ""
    assert layout.controllers["cpu"] == layout.controllers["cpuacct"] == str(v1.root / "cpu")
    assert layout.controllers["name=systemd"] == str(v1.root / "systemd")


def test_v2_takes_its_controllers_from_the_top(v2):
    layout = v2.layout()
    assert (layout.kind, layout.unified) == ("v2", str(v2.root / "top"))
    assert layout.controllers == dict.fromkeys(("cpu", "memory", "pids"), layout.unified)


def test_hybrid_leaves_v1_what_v1_has(v1):
    point = v1.mount("unified", "cgroup2", "")
    (point / "cgroup.controllers").write_text("hugetlb memory\n")
    v1.own.append("0::/")
    layout = v1.layout()
    assert layout.kind == "hybrid"
    assert layout.controllers["hugetlb"] == str(point)
    assert layout.controllers["memory"] == str(v1.root / "memory")


def test_a_hidden_mount_does_not_count(v2):
    v2.mount("hidden", "cgroup", "memory", device="0:999999")
    v2.own.append("5:memory:/")
    assert v2.layout().kind == "v2"


def test_a_second_mount_of_a_hierarchy_makes_no_second_cgroup(v1):
    v1.mount("again", "cgroup", "memory")
    assert len(tree.open_cgroup(v1.layout(), "/x", "id").leaves) == 3


def test_no_hierarchy_at_all(host):
    with pytest.raises(EngineError, match="neither cgroup nor cgroup2 is mounted"):
        host.layout()


@pytest.mark.parametrize(
    "given, cpu, memory, systemd",
    [
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("a/b", "/own/a/b", "/a/b", "/own/deep/a/b"),
        ("", "/own/id7", "/id7", "/own/deep/id7"),
        # V: `..` stays inside, as runc cleans it
        ("/../../x", "/x", "/x", "/x"),
        ("../x", "/own/x", "/x", "/own/deep/x"),
        ("/a/../../../etc/./x//y/", "/etc/x/y", "/etc/x/y", "/etc/x/y"),
    ],
)
def test_v1_paths(v1, given, cpu, memory, systemd):
    """decisions.md 31: absolute = from the top; relative or absent = below our own cgroup."""
    paths = tree.open_cgroup(v1.layout(), given, "id7").paths
    assert paths["cpu"] == paths["cpuacct"] == f"{v1.root}/cpu{cpu}"
    assert paths["memory"] == f"{v1.root}/memory{memory}"
    assert paths["name=systemd"] == f"{v1.root}/systemd{systemd}"


@pytest.mark.parametrize("given, path", [("/a", "/a"), ("a", "/user/a"), ("", "/user/id7")])
def test_v2_paths(v2, given, path):
    """decisions.md 31: relative or absent = below the parent of our own cgroup."""
    paths = tree.open_cgroup(v2.layout(), given, "id7").paths
    assert set(paths.values()) == {f"{v2.root}/top{path}"}
    assert set(paths) == {"", "cpu", "memory", "pids"}


@pytest.mark.parametrize(
    "root, own, expected",
    [
        ("/docker/abc", "/docker/abc", "/x"),
        ("/docker/abc", "/docker/abc/sub", "/sub/x"),
        ("/docker/abc", "/docker/abcd", "/x"),
        ("/", "/../other", "/x"),
    ],
)
def test_a_mount_that_shows_a_part_of_the_hierarchy(host, root, own, expected):
    host.mount("memory", "cgroup", "memory", root=root)
    host.own = [f"1:memory:{own}"]
    assert (
        tree.open_cgroup(host.layout(), "x", "id").paths["memory"]
        == f"{host.root}/memory{expected}"
    )


@pytest.mark.parametrize(
    "given, rule",
    [
        ("/a\0b", "NUL"),
        ("/a\nb", "newline"),
        ("/" + "a/" * 2500, "longer than"),
        ("/" + "a" * 256, "longer than 255"),
        ("/", "names no cgroup"),
        ("..", "names no cgroup"),
        ("machine.slice:libpod:abc", "systemd"),
        (":podman:id", "systemd"),
    ],
)
def test_refused_paths(v1, given, rule):
    """security.md 8 (cgroups); decisions.md 32."""
    with pytest.raises(SpecError, match=rule) as caught:
        tree.open_cgroup(v1.layout(), given, "id")
    assert caught.value.pointer == "/linux/cgroupsPath"
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_colons_in_an_absolute_path_are_letters(v1):
    assert tree.open_cgroup(v1.layout(), "/a:b:c", "id").paths["memory"].endswith("/a:b:c")


def test_the_record_names_what_will_be_made(v1):
    """lifecycle 118, 121: known before it is made; an existing parent is not ours."""
    (v1.root / "memory" / "pod").mkdir()
    group = tree.open_cgroup(v1.layout(), "/pod/id", "id")
    memory = [path for path in group.record["made"] if "/memory/" in path]
    assert memory == [f"{v1.root}/memory/pod/id"]
    assert [p for p in group.record["made"] if "/cpu/" in p] == [
        f"{v1.root}/cpu/pod",
        f"{v1.root}/cpu/pod/id",
    ]
    again = tree.from_record(group.record)
    assert (again.paths, again.made, again.kind) == (group.paths, group.made, group.kind)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "v3", "paths": {}, "made": [], "top": ""},
        {"kind": "v1", "paths": [], "made": [], "top": ""},
        {"kind": "v1", "paths": {"cpu": 7}, "made": [], "top": ""},
        {"kind": "v1", "paths": {"cpu": "relative"}, "made": [], "top": ""},
        {"kind": "v1", "paths": {"cpu": "/a/../../etc"}, "made": [], "top": ""},
        {"kind": "v1", "paths": {"cpu": "/a"}, "made": ["/a", None], "top": ""},
    ],
)
def test_a_damaged_record_is_refused(record):
    with pytest.raises(Error, match="cannot read the record of a cgroup"):
        tree.from_record(record)


def test_create_and_remove_make_and_take_exactly_that(v2):
    """lifecycle 119-121: parents that others use count as released; a repeated remove succeeds."""
    layout = v2.layout()
    one, two = (tree.open_cgroup(layout, f"/pod/{name}", name) for name in ("one", "two"))
    one.create()
    two.create()
    tree.from_record(one.record).remove()
    assert sorted(p.name for p in (v2.root / "top" / "pod").iterdir()) == ["two"]
    two.remove()
    two.remove()
    assert [p.name for p in (v2.root / "top").iterdir()] == ["cgroup.controllers"]


def test_a_parent_that_vanishes_before_create(v2):
    """The last container beside ours is deleted between our look and our mkdir."""
    parent = v2.root / "top" / "pod" / "deep"
    parent.mkdir(parents=True)
    (v2.root / "top" / "cgroup.procs").write_text("")
    group = tree.open_cgroup(v2.layout(), "/pod/deep/a", "a")
    assert len(group.made) == 1
    parent.rmdir()
    parent.parent.rmdir()
    group.create()
    assert (parent / "a").is_dir()
    group.remove()
    assert not parent.parent.exists()


def test_a_hierarchy_that_vanishes_before_create(v2):
    """Nothing is made on the file system below the mount point."""
    parent = v2.root / "top" / "pod"
    parent.mkdir()
    group = tree.open_cgroup(v2.layout(), "/pod/a", "a")
    parent.rmdir()
    with pytest.raises(Error, match="ENOENT"):
        group.create()
    assert not parent.exists()


def test_an_old_cgroup_stays(v2):
    (v2.root / "top" / "pod" / "mine").mkdir(parents=True)
    group = tree.open_cgroup(v2.layout(), "/pod/mine", "id")
    group.create()
    (v2.root / "top" / "pod" / "mine" / "made-by-container").mkdir()
    group.remove()
    assert list((v2.root / "top" / "pod" / "mine").iterdir()) == []


def test_two_creates_of_one_path(v2):
    layout = v2.layout()
    first, second = (tree.open_cgroup(layout, "/same", name) for name in ("a", "b"))
    first.create()
    with pytest.raises(EngineError, match="another process has just made it"):
        second.create()
    second.remove()
    assert (v2.root / "top" / "same").is_dir()


def test_a_name_that_is_a_file_there(v2):
    (v2.root / "top" / "cgroup.procs").write_text("")
    group = tree.open_cgroup(v2.layout(), "/cgroup.procs", "id")
    with pytest.raises(Error, match="cannot make cgroup .*EEXIST"):
        group.create()
