"""root, rootfsPropagation, masked and read-only paths: what a container sees of its root and nothing else."""

import pytest
from support import host
from support.box import Box
from support.spec import add_mount, drop_mount, fresh_spec, shell


def table(box: Box, spec: dict) -> dict[str, dict]:
    """Run the spec with its own mount table as output: point -> row, the last on a point wins."""
    spec["process"]["args"] = ["cat", "/proc/self/mountinfo"]
    return {row["point"]: row for row in map(host.mount_line, box.run(spec).ok().lines)}


# --- root

def test_root_is_read_only(box: Box) -> None:
    spec = shell("touch /x; touch /tmp/x; echo ok > /dev/shm/x; cat /dev/shm/x")
    result = box.run(spec).ok()
    assert result.out == "ok\n"
    assert result.err.count("Read-only file system") == 2


@pytest.mark.parametrize("form", [False, None])
def test_root_is_writable(box: Box, form: bool | None) -> None:
    spec = shell("echo x > /x; cat /x")
    if form is None:
        del spec["root"]["readonly"]
    else:
        spec["root"]["readonly"] = form
    assert box.run(spec).ok().out == "x\n"


def test_root_path_forms(box: Box) -> None:
    """lifecycle 35: absolute, or taken from the bundle."""
    spec = shell("echo up")
    where = box.bundle(spec)
    for path in (str(where / "rootfs"), "./rootfs", "rootfs/", "rootfs/../rootfs"):
        spec["root"]["path"] = path
        other = where if not path.startswith(".") else None
        assert box.run(spec, bundle=None if other is None else box.bundle(spec)).ok().out == "up\n"


def test_host_root_is_out_of_reach(box: Box) -> None:
    """pivot_root: the old root is gone, `..` of `/` is `/`."""
    marker = box.dir / "marker"
    marker.write_text("host")
    script = f"cat /../../..{marker} {marker}; cd /; cd ..; pwd; ls -d /.pivot* /oldroot 2>/dev/null; wc -l < /proc/1/mountinfo"
    result = box.run(shell(script))
    assert "host" not in result.out
    assert result.lines[0] == "/"
    assert not [line for line in result.lines if "pivot" in line or "oldroot" in line]


def test_mount_table_shows_nothing_of_the_host(box: Box) -> None:
    """Every line is the root, below it, and asked for by the spec or a mask."""
    points = table(box, fresh_spec())
    assert set(points) - {"/", "/proc", "/dev", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console"} == {
        point for point in points if point.startswith(("/sys/fs/cgroup", "/proc/", "/sys/firmware"))
    }


@pytest.mark.parametrize("how", ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared"])
def test_rootfs_propagation(box: Box, how: str) -> None:
    spec = fresh_spec()
    spec["linux"]["rootfsPropagation"] = how
    tags = " ".join(table(box, spec)["/"]["tags"])
    kind = how.removeprefix("r")
    if kind == "shared":
        assert "shared:" in tags
    elif kind == "unbindable":
        assert "unbindable" in tags
    else:
        assert "shared:" not in tags
        assert kind == "slave" or "master:" not in tags


# --- masked and read-only paths

def test_masked_and_readonly_paths(box: Box) -> None:
    spec = shell(
        "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; cat /etc/secret; ls /etc/dir;"
        " for p in /proc/sys/kernel/domainname /etc/ro/x; do probe open $p w; done"
    )
    spec["linux"]["maskedPaths"] += ["/etc/secret", "/etc/dir", "/etc/missing"]
    spec["linux"]["readonlyPaths"] += ["/etc/ro", "/etc/missing"]
    spec["root"]["readonly"] = False
    where = box.bundle(spec)
    (where / "rootfs/etc/secret").write_text("secret\n")
    for name in ("dir", "ro"):
        (where / f"rootfs/etc/{name}").mkdir()
        (where / f"rootfs/etc/{name}/x").write_text("x")
    assert box.run(None, bundle=where).ok().lines == ["0", "0", "EROFS", "EROFS"]


def test_masks_are_what_they_should_be(box: Box) -> None:
    """V14: a masked file is the null device, a masked directory an empty read-only tmpfs."""
    spec = shell("stat -c '%t:%T' /proc/keys; touch /sys/firmware/x; stat -f -c %T /sys/firmware; echo x > /proc/keys; cat /proc/keys")
    result = box.run(spec)
    assert result.lines == ["1:3", "tmpfs"], result
    assert "Read-only file system" in result.err


def test_readonly_path_takes_its_submounts_along(box: Box) -> None:
    """A read-only path is no way around for what lies below."""
    spec = shell("touch /vol/x")
    add_mount(spec, "/vol", "tmpfs", "tmpfs")
    spec["linux"]["readonlyPaths"].append("/vol")
    assert "Read-only file system" in box.run(spec).err


def test_no_masks_when_the_spec_has_none(box: Box) -> None:
    spec = shell("stat -c %F /proc/keys; ls /proc/bus | wc -l")
    spec["linux"]["maskedPaths"] = []
    del spec["linux"]["readonlyPaths"]
    found = table(box, spec)
    assert not [point for point in found if point.startswith("/proc/")]


def test_mounts_below_dev_without_a_dev_mount(box: Box) -> None:
    """A spec whose /dev is the image's own: default devices are made there."""
    spec = shell("echo x > /dev/null; stat -c '%t:%T' /dev/null")
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    spec["root"]["readonly"] = False
    assert box.run(spec).ok().out == "1:3\n"
