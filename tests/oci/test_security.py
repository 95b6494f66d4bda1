"""Hostile images against a trusting start: the rows of the vulnerability table that need no race.

Each test starts the same bundle without the attack first (or leans on a test named there), so that a runtime that cannot
start at all does not pass. Targets are marker files in the test's own directory.
"""

import os
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.runtime import Result
from support.spec import DOCKER_CAPS, add_mount, drop_mount, fresh_spec, set_caps, shell


def outside(box: Box) -> Path:
    """A host directory that no container may change, with a marker in it."""
    path = box.dir / "outside"
    path.mkdir()
    (path / "marker").write_text("marker\n")
    return path


def listing(path: Path) -> dict[str, tuple[int, int, int]]:
    return {name: (s.st_mode, s.st_uid, s.st_size) for name in sorted(os.listdir(path)) for s in [os.lstat(path / name)]}


def attacked(box: Box, spec: dict, link: str, target: object) -> tuple[Result, Path]:
    """Run a bundle as it is, then the same with `link` in its rootfs being a symlink."""
    box.run(spec).ok()
    where = box.bundle(spec)
    path = where / "rootfs" / link
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(str(target))
    return box.run(None, bundle=where), where


def writable(spec: dict) -> dict:
    spec["root"]["readonly"] = False
    return spec


# --- /dev

@pytest.mark.parametrize("mounted", [False, True])
def test_dev_is_a_link(box: Box, mounted: bool) -> None:
    """V17, V26: links, ptmx and the device set made in a host directory."""
    target = outside(box)
    (target / "ptmx").write_text("ptmx marker")
    spec = writable(fresh_spec("true"))
    if not mounted:
        drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    before = listing(target)
    attacked(box, spec, "dev", target)
    assert listing(target) == before


def test_dev_is_a_link_with_devices_of_the_spec(box: Box) -> None:
    """V26."""
    target = outside(box)
    spec = writable(fresh_spec("true"))
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    spec["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3}]
    before = listing(target)
    attacked(box, spec, "dev", f"../../../../../..{target}")
    assert listing(target) == before


def test_dev_console_is_a_dangling_link(box: Box) -> None:
    """V28: a root-owned file made on the host. Control: test_terminal.py::test_foreground_relay."""
    from support.terminal import open_terminal

    target = outside(box)
    spec = writable(fresh_spec("true"))
    spec["process"]["terminal"] = True
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    where = box.bundle(spec)
    (where / "rootfs/dev/console").symlink_to(target / "made")
    terminal, slave = open_terminal()
    box.spawn_run(None, bundle=where, stdin=slave, stdout=slave, stderr=slave).finish()
    os.close(slave)
    terminal.close()
    assert sorted(os.listdir(target)) == ["marker"]


def test_dev_null_is_a_link_to_a_host_file(box: Box, null: int) -> None:
    """V29: the std streams became that file, and it was given to the user."""
    target = outside(box)
    spec = writable(shell("echo x; echo y >&2"))
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    spec["linux"]["maskedPaths"] = []
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    add_mount(spec, "/vol", "bind", target, "bind")
    before = listing(target)
    where = box.bundle(spec)
    (where / "rootfs/dev/null").symlink_to("/vol/marker")
    box.run(None, bundle=where, stdin=null, stdout=null, stderr=null)
    assert listing(target) == before
    assert (target / "marker").read_text() == "marker\n"


def test_mask_source_is_checked(box: Box) -> None:
    """V14: /dev/null of the image links to a procfs file; the mask must not expose that."""
    spec = writable(shell("stat -c '%t:%T' /proc/keys"))
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    assert box.run(spec).ok().out == "1:3\n"
    where = box.bundle(spec)
    (where / "rootfs/dev/null").symlink_to("/proc/sys/kernel/domainname")
    result = box.run(None, bundle=where)
    assert result.code != 0 or result.out == "1:3\n", result


# --- mount points

@pytest.mark.parametrize("depth", ["absolute", "relative"])
def test_mount_point_below_a_link(box: Box, depth: str) -> None:
    """V13, V23: directories and files made on the host."""
    target = outside(box)
    file = box.dir / "file"
    file.write_text("x")
    spec = writable(fresh_spec("true"))
    add_mount(spec, "/mnt/a/b", "tmpfs", "tmpfs")
    add_mount(spec, "/mnt/x", "bind", file, "bind")
    before = listing(target)
    attacked(box, spec, "mnt", target if depth == "absolute" else f"../../../../../../../..{target}")
    assert listing(target) == before


def test_last_component_is_a_link(box: Box) -> None:
    """V23."""
    target = outside(box)
    file = box.dir / "file"
    file.write_text("x")
    spec = writable(fresh_spec("true"))
    add_mount(spec, "/mnt/x", "bind", file, "bind")
    before = listing(target)
    attacked(box, spec, "mnt/x", target / "made")
    assert listing(target) == before


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_are_links(box: Box, name: str) -> None:
    """V06: masks and labels would land elsewhere; refused."""
    spec = writable(fresh_spec("true"))
    where = box.bundle(spec)
    box.run(None, bundle=where).ok()
    where = box.bundle(spec)
    (where / "rootfs" / name).rmdir()
    (where / "rootfs" / name).symlink_to("vol")
    box.run(None, bundle=where).failed(1)


def test_bind_on_proc_is_refused(box: Box) -> None:
    """V05: a fake proc turns label and attribute writes into no-ops."""
    fake = box.dir / "fake"
    (fake / "self/attr").mkdir(parents=True)
    (fake / "self/attr/exec").write_text("")
    spec = fresh_spec("true")
    box.run(spec).ok()
    spec["mounts"][0] = {"destination": "/proc", "type": "bind", "source": str(fake), "options": ["bind"]}
    box.refuses(spec)


@pytest.mark.parametrize("place", ["/proc/self/attr/exec", "/proc/sys/kernel", "/proc/self"])
def test_bind_inside_proc_is_refused(box: Box, place: str) -> None:
    """V05: only a short list may be covered."""
    source = box.dir / "source"
    if place.endswith("exec"):
        source.write_text("")
    else:
        source.mkdir()
    spec = fresh_spec()
    add_mount(spec, place, "bind", source, "bind")
    box.refuses(spec)


@pytest.mark.parametrize("place", ["/proc/cpuinfo", "/proc/meminfo", "/proc/uptime", "/proc/loadavg", "/proc/stat"])
def test_bind_of_what_lxcfs_covers_works(box: Box, place: str) -> None:
    """The positive control of the two above."""
    source = box.dir / "source"
    source.write_text("mine\n")
    spec = fresh_spec("cat", place)
    add_mount(spec, place, "bind", source, "bind")
    assert box.run(spec).ok().out == "mine\n"


def test_read_only_root_is_not_resolved_through_the_image(box: Box) -> None:
    """V31: no proc mount, and a rootfs full of fake proc/self/fd links."""
    target = outside(box)
    spec = shell("touch /x 2>/x.err || echo refused; touch /vol/x && echo volume")
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    drop_mount(spec, "/proc")
    add_mount(spec, "/vol", "bind", target, "bind", "rw")
    where = box.bundle(spec)
    fds = where / "rootfs/proc/self/fd"
    fds.mkdir(parents=True)
    for n in range(40):
        (fds / str(n)).symlink_to("/vol")
    result = box.run(None, bundle=where)
    assert not (where / "rootfs/x").exists(), result
    if result.code == 0:
        assert result.lines == ["refused", "volume"]


def test_nothing_is_made_in_the_source_of_a_read_only_bind(box: Box) -> None:
    """V32: a nested mount point that is missing in it is an error, or is made nowhere."""
    source = outside(box)
    spec = fresh_spec("true")
    add_mount(spec, "/vol", "bind", source, "bind", "ro")
    add_mount(spec, "/vol/nested", "tmpfs", "tmpfs")
    box.try_create(spec)
    assert sorted(os.listdir(source)) == ["marker"]


@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_tmpcopyup_copies_the_containers_content(box: Box, form: str) -> None:
    """V41: a linked directory is that of the container, never the host's."""
    target = outside(box)
    spec = shell("ls /vol")
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "tmpcopyup")
    assert box.run(spec).ok().out == ""
    where = box.bundle(spec)
    (where / "rootfs/vol").rmdir()
    (where / "rootfs/vol").symlink_to(target if form == "absolute" else f"../../../../../../..{target}")
    result = box.run(None, bundle=where)
    assert "marker" not in result.out
    assert listing(target).keys() == {"marker"}


def test_links_inside_a_tmpcopyup_are_copied_as_links(box: Box) -> None:
    """V41."""
    target = outside(box)
    spec = shell("readlink /vol/link; cat /vol/link")
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "tmpcopyup")
    where = box.bundle(spec)
    (where / "rootfs/vol/link").symlink_to(target / "marker")
    result = box.run(None, bundle=where)
    assert result.lines == [str(target / "marker")], result


# --- no pivot

def test_no_pivot_keeps_the_masks(box: Box) -> None:
    """V22: masked files stay masked, and a new proc mount inside reveals nothing."""
    script = "stat -c '%t:%T' /proc/keys; probe open /proc/sys/kernel/domainname w; ls /proc | grep -c '^[0-9]'"
    result = box.run(shell(script), "--no-pivot").ok()
    assert result.lines[:2] == ["1:3", "EROFS"]
    assert int(result.lines[2]) < 10


def test_no_pivot_reveals_no_bare_proc(box: Box) -> None:
    """V22: with a user namespace of its own the kernel lets a process mount proc only if a full one is visible."""
    spec = shell("mkdir /tmp/p; mount -t proc proc /tmp/p && stat -c '%t:%T' /tmp/p/keys")
    spec["process"]["noNewPrivileges"] = False
    add_mount(spec, "/tmp", "tmpfs", "tmpfs")
    set_caps(spec, *DOCKER_CAPS)
    result = box.run(spec, "--no-pivot")
    assert result.code != 0 or result.out == "1:3\n", result


def test_no_pivot_shows_nothing_of_the_host(box: Box) -> None:
    marker = box.dir / "marker"
    marker.write_text("host marker")
    result = box.run(shell(f"cat {marker} ../../../..{marker}; true"), "--no-pivot").ok()
    assert "host marker" not in result.out


# --- processes

def test_container_cannot_trace_an_exec(box: Box) -> None:
    """V02-lite: a container root with CAP_SYS_PTRACE samples every process it sees during execs; no host path shows."""
    script = (
        "while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do"
        " for l in $p/cwd $p/root $p/exe $p/fd/*; do readlink $l; done; done; done 2>/dev/null | grep -F TARGET; echo end"
    ).replace("TARGET", str(box.dir))
    spec = shell(script)
    spec["process"]["noNewPrivileges"] = False
    set_caps(spec, *DOCKER_CAPS, "CAP_SYS_PTRACE")
    add_mount(spec, "/tmp", "tmpfs", "tmpfs")
    container = box.start(spec)
    for _ in range(20):
        container.exec("true").ok()
    container.exec("touch", "/tmp/stop").ok()
    assert container.stream.rest() == "end\n"


def test_entrypoint_through_proc_self_exe(box: Box) -> None:
    """V03: `#!/proc/self/exe` starts nothing of the host, and the runtime's program is as before."""
    before = Path(box.runtime.binary).read_bytes()
    spec = fresh_spec("/evil", "--version")
    where = box.bundle(spec)
    (where / "rootfs/evil").symlink_to("/proc/self/exe")
    result = box.run(None, bundle=where)
    assert result.code != 0 or "version" not in result.out.lower(), result
    assert Path(box.runtime.binary).read_bytes() == before


def test_shebang_of_proc_self_exe(box: Box) -> None:
    """V03."""
    where = box.bundle(fresh_spec("/evil"))
    (where / "rootfs/evil").write_text("#!/proc/self/exe\n")
    (where / "rootfs/evil").chmod(0o755)
    before = os.stat(box.runtime.binary)
    box.run(None, bundle=where)
    after = os.stat(box.runtime.binary)
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)


def test_cgroups_are_read_only(box: Box) -> None:
    """V11: every cgroup line of the container's mounts is ro, with a user namespace too."""
    spec = shell("mkdir /sys/fs/cgroup/pids/x 2>/dev/null && echo made; grep ' - cgroup' /proc/self/mountinfo | grep -vc ' ro,'")
    assert box.run(spec).lines == ["0"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fifo", "zero", "large", "long line", "loop"])
def test_passwd_of_the_image_is_not_trusted(box: Box, form: str) -> None:
    """V38: bounded, never blocking; HOME falls back to something."""
    spec = fresh_spec("sh", "-c", "echo up")
    spec["process"]["user"] = {"uid": 4242, "gid": 4242}
    where = box.bundle(spec)
    path = where / "rootfs/etc/passwd"
    path.unlink()
    if form == "fifo":
        os.mkfifo(path)
    elif form == "zero":
        path.symlink_to("/dev/zero")
    elif form == "loop":
        path.symlink_to("passwd")
    else:
        with path.open("wb") as file:
            file.write(b"x" if form == "long line" else b"a:x:1:1::/:/bin/sh\n" * 100)
            file.truncate(1 << 31)
    result = box.runtime.call("run", "--bundle", where, box.new_id(), timeout_s=5)
    assert result.code == 1 or result.out == "up\n", result


def test_secrets_of_the_environment_stay_out_of_messages(box: Box) -> None:
    """P08: the name of a variable may be told, never its value."""
    spec = fresh_spec("none")
    spec["process"]["env"].append("TOKEN=hush-hush")
    log = box.dir / "log"
    result = box.try_create(spec, options=("--debug", "--log", str(log))).failed()
    assert "hush-hush" not in result.err + log.read_text()


@pytest.mark.parametrize("name", ["config", "resolv.conf", "hostname", ".config", "hosts"])
def test_nothing_is_written_into_the_rootfs(box: Box, name: str) -> None:
    """V24: links planted under names that a runtime might drop."""
    target = outside(box)
    spec = fresh_spec("true")
    where = box.bundle(spec)
    for place in ("", "etc/", "run/"):
        (where / "rootfs" / f"{place}{name}").symlink_to(target / "marker")
    box.run(None, bundle=where).ok()
    assert (target / "marker").read_text() == "marker\n"
    assert sorted(os.listdir(target)) == ["marker"]


@pytest.mark.skerry_only("P02, P03: nothing of the caller is code")
def test_python_of_the_caller_never_runs(box: Box) -> None:
    """Variables, cwd and bundle full of traps."""
    trap = f"open({str(box.dir / 'sprung')!r}, 'w').close()\n"
    where = box.bundle(shell("echo up"))
    for name in ("json", "ctypes", "struct", "os", "re", "sitecustomize", "usercustomize", "posix", "skerry"):
        (where / f"{name}.py").write_text(trap)
    variables = {
        "PYTHONPATH": str(where), "PYTHONHOME": str(where), "PYTHONSTARTUP": str(where / "json.py"), "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": str(where), "PYTHONPYCACHEPREFIX": str(where), "PYTHONWARNINGS": "error", "PYTHONBREAKPOINT": "json.x",
    }  # fmt: skip
    result = box.run(None, bundle=where, env=variables, cwd=where).ok()
    assert result.out == "up\n"
    assert not (box.dir / "sprung").exists()
    assert not [name for name in os.listdir(where) if name == "__pycache__"]


@pytest.mark.skerry_only("security 4: the container never contains an interpreter")
def test_no_interpreter_in_the_container(box: Box) -> None:
    """Of a created container and of one that is exec'd into, no process maps Python."""
    container = box.create(fresh_spec("probe", "park"))
    maps = Path(f"/proc/{container.pid}/maps").read_text()
    assert "python" not in maps
    container.start()
    container.exec("sleep", "1000", flags=("-d", "--pid-file", box.dir / "pid")).ok()
    assert "python" not in Path(f"/proc/{(box.dir / 'pid').read_text()}/maps").read_text()


@pytest.mark.skerry_only("V34: path sockets only")
def test_no_abstract_sockets(box: Box) -> None:
    box.create(fresh_spec())
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    abstract = {row[6] for row in rows if len(row) > 7 and row[7].startswith("@")}
    for pid in host.descendants():
        held = {os.readlink(fd).strip("socket:[]") for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert not held & abstract


def test_helpers_of_the_image_never_run(box: Box) -> None:
    """V27: planted in rootfs, bundle and cwd, and in front of the container's PATH."""
    sprung = box.dir / "sprung"
    spec = shell("echo up")
    spec["process"]["env"] = ["PATH=/vol:/bin"]
    where = box.bundle(spec)
    for name in ("ip", "newuidmap", "newgidmap", "mount", "passt", "virtiofsd", "qemu-system-x86_64", "ps", "criu", "skerry-init"):
        for place in (where, where / "rootfs/vol"):
            (place / name).write_text(f"#!/bin/sh\ntouch {sprung}\n")
            (place / name).chmod(0o755)
    assert box.run(None, bundle=where, cwd=where).ok().out == "up\n"
    assert not sprung.exists()


def test_container_cannot_reach_the_state(box: Box) -> None:
    """V35: nothing of the runtime's root is in the container's mount table."""
    result = box.run(fresh_spec("cat", "/proc/self/mountinfo")).ok()
    assert str(box.runtime.root) not in "".join(line.split(" - ")[1] for line in result.lines)
    assert str(box.runtime.root) not in {row["point"] for row in map(host.mount_line, result.lines)}
