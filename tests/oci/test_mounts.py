"""mounts: every type and option by its effect, propagation, order, odd destinations."""

import os
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.spec import DOCKER_CAPS, add_mount, fresh_spec, set_caps, shell


def table(box: Box, spec: dict) -> dict[str, dict]:
    """Run the spec with its own mount table as output: point -> row, the last on a point wins."""
    spec["process"]["args"] = ["cat", "/proc/self/mountinfo"]
    return {row["point"]: row for row in map(host.mount_line, box.run(spec).ok().lines)}


def volume(box: Box, name: str = "volume") -> Path:
    """Make a host directory with a file in it."""
    path = box.dir / name
    path.mkdir()
    path.chmod(0o777)
    (path / "file").write_text("content\n")
    return path


# --- types

def test_default_mounts(box: Box) -> None:
    """Kind and flags of each mount of the default spec."""
    found = table(box, fresh_spec())
    wanted = {
        "/proc": ("proc", set()),
        "/dev": ("tmpfs", {"nosuid"}),
        "/dev/pts": ("devpts", {"nosuid", "noexec"}),
        "/dev/shm": ("tmpfs", {"nosuid", "noexec", "nodev"}),
        "/dev/mqueue": ("mqueue", {"nosuid", "noexec", "nodev"}),
        "/sys": ("sysfs", {"nosuid", "noexec", "nodev", "ro"}),
    }
    for point, (kind, flags) in wanted.items():
        assert found[point]["kind"] == kind, point
        assert flags <= set(found[point]["options"]), point
        if "ro" not in flags:
            assert "rw" in found[point]["options"], point
    assert "size=65536k" in found["/dev"]["data"]
    assert "gid=5" in found["/dev/pts"]["data"]
    assert "mode=620" in found["/dev/pts"]["data"]
    assert "ptmxmode=666" in found["/dev/pts"]["data"]


def test_tmpfs(box: Box) -> None:
    spec = shell("stat -c '%a %u %g' /vol; df -k /vol | tail -1 | tr -s ' ' | cut -d' ' -f2")
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "size=128k", "mode=1750", "uid=7", "gid=8")
    assert box.run(spec).ok().lines == ["1750 7 8", "128"]


def test_tmpfs_source_is_kept(box: Box) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "tmpfs", "mysource")
    assert table(box, spec)["/vol"]["source"] == "mysource"


def test_mode_of_a_directory_under_a_tmpfs_is_kept(box: Box) -> None:
    """A tmpfs without mode takes that of what it covers, as runc does it."""
    spec = shell("stat -c %a /vol")
    add_mount(spec, "/vol", "tmpfs", "tmpfs")
    where = box.bundle(spec)
    (where / "rootfs/vol").chmod(0o711)
    assert box.run(None, bundle=where).ok().out == "711\n"


def test_proc_is_that_of_the_pid_namespace(box: Box) -> None:
    result = box.run(shell("readlink /proc/self; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm"))
    assert result.ok().lines[1:] == ["3", "sh"] or int(result.lines[1]) <= 4
    assert int(result.lines[0]) < 10


def test_bind_of_a_directory(box: Box) -> None:
    source = volume(box)
    spec = shell("cat /vol/file; echo written > /vol/new")
    add_mount(spec, "/vol", "bind", source, "bind")
    assert box.run(spec).ok().out == "content\n"
    assert (source / "new").read_text() == "written\n"


def test_bind_of_a_file(box: Box) -> None:
    """A missing mount point is made, as a file."""
    source = volume(box) / "file"
    spec = shell("cat /run/a/file; stat -c %F /run/a/file")
    add_mount(spec, "/run/a/file", "bind", source, "bind", "ro")
    assert box.run(spec).ok().lines == ["content", "regular file"]


def test_bind_over_a_file(box: Box) -> None:
    source = volume(box) / "file"
    spec = fresh_spec("cat", "/etc/passwd")
    add_mount(spec, "/etc/passwd", "bind", source, "bind")
    assert box.run(spec).ok().out == "content\n"


def test_bind_of_a_socket(box: Box) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box.dir / "s"))
        spec = fresh_spec("stat", "-c", "%F", "/run/s")
        add_mount(spec, "/run/s", "bind", box.dir / "s", "bind")
        assert box.run(spec).ok().out == "socket\n"


def test_bind_source_is_relative_to_the_bundle(box: Box) -> None:
    spec = fresh_spec("cat", "/vol/file")
    add_mount(spec, "/vol", "bind", "beside", "bind")
    where = box.bundle(spec)
    (where / "beside").mkdir()
    (where / "beside/file").write_text("beside\n")
    assert box.run(None, bundle=where).ok().out == "beside\n"


@pytest.mark.parametrize("form", ["type bind", "type none", "no type"])
def test_bind_forms(box: Box, form: str) -> None:
    """config.md: bind is a bind by its option; engines write each of these."""
    spec = fresh_spec("cat", "/vol/file")
    mount = add_mount(spec, "/vol", "bind", volume(box), "rbind", "rw")
    if form == "type none":
        mount["type"] = "none"
    if form == "no type":
        del mount["type"]
    assert box.run(spec).ok().out == "content\n"


@pytest.mark.parametrize(("option", "seen"), [("bind", False), ("rbind", True)])
def test_bind_takes_submounts_only_when_recursive(box: Box, option: str, seen: bool) -> None:
    source = volume(box)
    (source / "sub").mkdir()
    host.mount("tmpfs", source / "sub", "tmpfs")
    (source / "sub/inner").write_text("x")
    spec = shell("test -e /vol/sub/inner && echo seen; true")
    add_mount(spec, "/vol", "bind", source, option, "rw")
    assert (box.run(spec).ok().out == "seen\n") is seen
    host.umount(source / "sub")


def test_missing_mount_points_are_made(box: Box) -> None:
    spec = fresh_spec("cat", "/made/of/parts/file")
    add_mount(spec, "/made/of/parts", "bind", volume(box), "bind")
    where = box.bundle(spec)
    assert box.run(None, bundle=where).ok().out == "content\n"
    assert (where / "rootfs/made/of/parts").stat().st_mode & 0o777 == 0o755


def test_mounts_are_made_in_order(box: Box) -> None:
    """config.md: in the order listed; a later one covers."""
    spec = shell("ls /vol; ls /vol/sub")
    first, second = volume(box, "first"), volume(box, "second")
    (first / "one").touch()
    (first / "sub").mkdir()
    (second / "two").touch()
    add_mount(spec, "/vol", "tmpfs", "tmpfs")
    add_mount(spec, "/vol", "bind", first, "bind")
    add_mount(spec, "/vol/sub", "bind", second, "bind")
    assert box.run(spec).ok().lines == ["file", "one", "sub", "file", "two"]


def test_relative_destination(box: Box) -> None:
    """config.md: should be absolute; engines of old wrote it without the slash."""
    spec = fresh_spec("cat", "/vol/file")
    add_mount(spec, "vol", "bind", volume(box), "bind")
    assert box.run(spec).ok().out == "content\n"


def test_destination_with_dots_stays_inside(box: Box) -> None:
    """security 8: stays in the rootfs, or is refused."""
    spec = fresh_spec("cat", "/vol/file")
    add_mount(spec, "/../../../vol", "bind", volume(box), "bind")
    result = box.run(spec)
    assert result.code == 1 or result.out == "content\n", result


@pytest.mark.parametrize("target", ["/real", "real", "../real", "../../../../real"])
def test_destination_through_a_link_stays_inside(box: Box, target: str) -> None:
    """V08, V13: links are resolved below the rootfs."""
    spec = shell("cat /real/sub/file")
    add_mount(spec, "/link/sub", "bind", volume(box), "bind")
    where = box.bundle(spec)
    (where / "rootfs/real").mkdir()
    (where / "rootfs/link").symlink_to(target)
    assert box.run(None, bundle=where).ok().out == "content\n"
    assert not Path("/real").exists()


def test_proc_and_sys_of_a_container_without_them(box: Box) -> None:
    """A spec without mounts: nothing but the root is there."""
    spec = fresh_spec("ls", "/proc", "/sys")
    spec["mounts"] = []
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    assert [line for line in box.run(spec).ok().lines if line and not line.endswith(":")] == []


def test_mqueue_is_of_the_ipc_namespace(box: Box) -> None:
    spec = shell("touch /dev/mqueue/q && ls /dev/mqueue")
    assert box.run(spec).ok().out == "q\n"


def test_cgroup_mount(box: Box) -> None:
    """One directory per v1 controller, read-only, showing the container's own cgroup as its root."""
    spec = shell("ls /sys/fs/cgroup; touch /sys/fs/cgroup/pids/x; mkdir /sys/fs/cgroup/pids/y; cat /sys/fs/cgroup/pids/cgroup.procs")
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    result = box.run(spec)
    names = {name for name in host.cgroup_mounts() if name != "unified"}
    assert names <= set(result.lines), result
    assert result.err.count("Read-only file system") == 2, result
    assert "1" in result.lines


def test_cgroup_mount_with_cgroup_namespace(box: Box) -> None:
    spec = shell("cat /proc/self/cgroup | cut -d: -f3 | sort -u; ls -d /sys/fs/cgroup/pids/pids.max")
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    lines = box.run(spec).ok().lines
    assert lines[0] == "/"
    assert lines[-1] == "/sys/fs/cgroup/pids/pids.max"


def test_cgroup_mount_has_its_source(box: Box) -> None:
    """Programs look for it in /proc/mounts; with a cgroup namespace it is a new mount, not a clone."""
    spec = fresh_spec()
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    assert table(box, spec)["/sys/fs/cgroup/pids"]["source"] == "cgroup"


@pytest.mark.parametrize("with_namespace", [False, True])
def test_cgroup2_is_version_2(box: Box, with_namespace: bool) -> None:
    """On a hybrid host, too, where type cgroup is the hierarchies of version 1."""
    if "unified" not in host.cgroup_mounts():
        pytest.skip("no cgroup v2 tree beside those of v1")
    spec = fresh_spec()
    if with_namespace:
        spec["linux"]["namespaces"].append({"type": "cgroup"})
    add_mount(spec, "/vol", "cgroup2", "cgroup2", "ro", "nosuid")
    found = table(box, spec)
    assert found["/vol"]["kind"] == "cgroup2"
    assert {"ro", "nosuid"} <= set(found["/vol"]["options"])
    assert not [point for point in found if point.startswith("/vol/")]


# --- options

FLAGS = [
    ("ro", "ro"), ("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("noatime", "noatime"),
    ("nodiratime", "nodiratime"), ("relatime", "relatime"), ("rw", "rw"), ("nosymfollow", "nosymfollow"), ("rro", "ro"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "shown"), FLAGS)
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_flag(box: Box, kind: str, option: str, shown: str) -> None:
    spec = fresh_spec()
    extra = ("bind",) if kind == "bind" else ()
    add_mount(spec, "/vol", kind, volume(box) if kind == "bind" else "tmpfs", *extra, option)
    assert shown in table(box, spec)["/vol"]["options"]


@pytest.mark.parametrize(
    ("options", "shown", "absent"),
    [
        (["ro", "rw"], "rw", "ro"),
        (["rw", "ro"], "ro", "rw"),
        (["nosuid", "suid"], "rw", "nosuid"),
        (["nodev", "dev"], "rw", "nodev"),
        (["noexec", "exec"], "rw", "noexec"),
        (["noatime", "atime"], "relatime", "noatime"),
        (["defaults"], "rw", "nosuid"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_the_last_of_contrary_options_wins(box: Box, options: list[str], shown: str, absent: str) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "tmpfs", "tmpfs", *options)
    found = table(box, spec)["/vol"]["options"]
    assert shown in found
    assert absent not in found


@pytest.mark.parametrize(("option", "shown"), [("sync", "sync"), ("lazytime", "lazytime"), ("dirsync", "dirsync")])
def test_flags_of_the_superblock(box: Box, option: str, shown: str) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "tmpfs", "tmpfs", option)
    assert shown in table(box, spec)["/vol"]["data"]


def test_strictatime(box: Box) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "strictatime")
    assert not {"relatime", "noatime"} & set(table(box, spec)["/vol"]["options"])


def test_read_only_bind_cannot_be_written(box: Box) -> None:
    source = volume(box)
    spec = shell("touch /vol/x; echo y > /vol/file; mount -o remount,rw /vol; touch /vol/x")
    add_mount(spec, "/vol", "bind", source, "bind", "ro")
    result = box.run(spec)
    assert result.err.count("Read-only file system") == 3, result
    assert sorted(os.listdir(source)) == ["file"]


def test_noexec_nodev_nosuid_by_effect(box: Box) -> None:
    source = volume(box)
    (source / "run").write_text("#!/bin/sh\necho ran\n")
    (source / "run").chmod(0o755)
    spec = shell("/vol/run; /vol2/run")
    add_mount(spec, "/vol", "bind", source, "bind", "noexec")
    add_mount(spec, "/vol2", "bind", source, "bind", "exec")
    result = box.run(spec).ok()
    assert result.out == "ran\n"
    assert "Permission denied" in result.err


@pytest.mark.parametrize(("option", "shown"), [("rro", "ro"), ("rnosuid", "nosuid"), ("rnodev", "nodev"), ("rnoexec", "noexec")])
def test_recursive_attribute(box: Box, option: str, shown: str) -> None:
    """config.md: the r-forms reach every submount (mount_setattr with AT_RECURSIVE)."""
    source = volume(box)
    (source / "sub").mkdir()
    host.mount("tmpfs", source / "sub", "tmpfs")
    spec = fresh_spec()
    add_mount(spec, "/vol", "bind", source, "rbind", option)
    found = table(box, spec)
    host.umount(source / "sub")
    assert shown in found["/vol"]["options"]
    assert shown in found["/vol/sub"]["options"]


def test_plain_ro_is_not_recursive(box: Box) -> None:
    source = volume(box)
    (source / "sub").mkdir()
    host.mount("tmpfs", source / "sub", "tmpfs")
    spec = fresh_spec()
    add_mount(spec, "/vol", "bind", source, "rbind", "ro")
    found = table(box, spec)
    host.umount(source / "sub")
    assert "ro" in found["/vol"]["options"]
    assert "rw" in found["/vol/sub"]["options"]


@pytest.mark.parametrize("how", ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared", "runbindable"])
def test_propagation_option(box: Box, how: str) -> None:
    source = volume(box)
    host.mount(source, source, flags=host.MS_BIND)
    host.mount("none", source, flags=host.MS_SHARED)
    spec = fresh_spec()
    add_mount(spec, "/vol", "bind", source, "rbind", how)
    tags = " ".join(table(box, spec)["/vol"]["tags"])
    host.umount(source)
    kind = how.removeprefix("r")
    wanted = {"private": "", "slave": "master:", "shared": "shared:", "unbindable": "unbindable"}[kind]
    assert wanted in tags
    assert kind != "private" or tags == ""


def test_rslave_volume_receives_the_hosts_mounts(box: Box) -> None:
    """decisions 17; the host does not receive the container's."""
    source = volume(box)
    host.mount(source, source, flags=host.MS_BIND)
    host.mount("none", source, flags=host.MS_SHARED)
    (source / "late").mkdir()
    spec = fresh_spec()
    set_caps(spec, *DOCKER_CAPS, "CAP_SYS_ADMIN")
    add_mount(spec, "/vol", "bind", source, "rbind", "rslave")
    container = box.parked(spec)
    host.mount("tmpfs", source / "late", "tmpfs")
    (source / "late/inner").write_text("seen\n")
    assert container.exec("cat", "/vol/late/inner").ok().out == "seen\n"
    before = len(host.mountinfo())
    container.exec("sh", "-c", "mkdir /vol/theirs && mount -t tmpfs none /vol/theirs", flags=("--cap", "CAP_SYS_ADMIN")).ok()
    assert len(host.mountinfo()) == before
    host.umount(source / "late")
    host.umount(source)


def test_rshared_volume_sends_mounts_to_the_host(box: Box) -> None:
    """As docker asks for it: the root is shared as well."""
    source = volume(box)
    host.mount(source, source, flags=host.MS_BIND)
    host.mount("none", source, flags=host.MS_SHARED)
    (source / "theirs").mkdir()
    spec = shell("mount -t tmpfs none /vol/theirs && echo done; probe park")
    spec["process"]["noNewPrivileges"] = False
    set_caps(spec, *DOCKER_CAPS, "CAP_SYS_ADMIN")
    add_mount(spec, "/vol", "bind", source, "rbind", "rshared")
    spec["linux"]["rootfsPropagation"] = "shared"
    container = box.start(spec)
    container.stream.until("ready")
    assert "done" in container.stream.text
    assert str(source / "theirs") in [row["point"] for row in host.mountinfo()]
    container.end()
    host.umount(source / "theirs")
    host.umount(source)


def test_tmpcopyup(box: Box) -> None:
    """features, V41: content, modes, links and owners of what is covered, nothing else."""
    spec = shell("cd /vol && cat sub/file && stat -c '%a %u' sub/file sub && readlink link && echo w > sub/new && stat -f -c %T .")
    set_caps(spec, *DOCKER_CAPS)
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "tmpcopyup")
    where = box.bundle(spec)
    sub = where / "rootfs/vol/sub"
    sub.mkdir(mode=0o750)
    (sub / "file").write_text("copied\n")
    (sub / "file").chmod(0o640)
    os.chown(sub / "file", 33, 33)
    (where / "rootfs/vol/link").symlink_to("/outside")
    assert box.run(None, bundle=where).ok().lines == ["copied", "640 33", "750 0", "/outside", "tmpfs"]
    assert os.listdir(sub) == ["file"]


def test_idmapped_mount(box: Box) -> None:
    """config.md: a file of 1000 on the host is one of 0 inside."""
    source = volume(box)
    os.chown(source / "file", 100000, 100000)
    spec = fresh_spec("stat", "-c", "%u %g", "/vol/file")
    mount = add_mount(spec, "/vol", "bind", source, "bind")
    mount["uidMappings"] = [{"containerID": 100000, "hostID": 0, "size": 1000}]
    mount["gidMappings"] = [{"containerID": 100000, "hostID": 0, "size": 1000}]
    assert box.run(spec).ok().out == "0 0\n"


def test_unknown_option_is_refused(box: Box) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "nosuchoption")
    box.refuses(spec)


def test_missing_bind_source_is_refused(box: Box) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "bind", box.dir / "missing", "bind")
    box.refuses(spec)
    assert not (box.dir / "missing").exists()


def test_filesystem_that_does_not_exist(box: Box) -> None:
    spec = fresh_spec()
    add_mount(spec, "/vol", "nosuchfs", "none")
    box.refuses(spec)
