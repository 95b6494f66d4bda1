"""/dev: default devices and links, linux.devices, the device filter."""


import pytest
from support import host
from support.box import Box
from support.spec import DOCKER_CAPS, fresh_spec, set_caps, shell, user_namespace

DEFAULTS = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def device(path: str, kind: str, major: int, minor: int, **more: int) -> dict:
    return {"path": path, "type": kind, "major": major, "minor": minor, **more}


def allow(spec: dict, kind: str, major: int, minor: int, access: str = "rwm") -> None:
    spec["linux"]["resources"]["devices"].append(
        {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
    )


@pytest.mark.parametrize("umask", [0o022, 0o777, 0])
def test_default_devices(box: Box, umask: int) -> None:
    """config-linux.md: six devices, 0666, whatever the caller's umask."""
    names = " ".join(f"/dev/{name}" for name in DEFAULTS)
    result = box.run(shell(f"stat -c '%n %F %t:%T %a %u:%g' {names}"), umask=umask).ok()
    assert result.lines == [
        f"/dev/{name} character special file {number} 666 0:0" for name, number in DEFAULTS.items()
    ]


def test_default_devices_work(box: Box) -> None:
    spec = shell(
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c;"
        " echo x > /dev/full; wc -c < /dev/null"
    )
    result = box.run(spec)
    assert result.lines == ["3", "5", "0"], result
    assert "No space left" in result.err


def test_links(box: Box) -> None:
    for name, target in LINKS.items():
        assert box.run(fresh_spec("readlink", f"/dev/{name}")).ok().out == f"{target}\n"


def test_ptmx(box: Box) -> None:
    """config-linux.md: /dev/ptmx is a link to pts/ptmx or a bind of it; opening it gives a terminal."""
    assert box.run(shell("probe open /dev/ptmx rw; ls /dev/pts")).ok().lines == ["ok", "ptmx"]


def test_dev_of_a_read_only_root_is_writable(box: Box) -> None:
    assert box.run(shell("touch /dev/mine && echo ok")).ok().out == "ok\n"


def test_core_is_not_a_leak(box: Box) -> None:
    """Nothing beyond the defaults appears in /dev."""
    found = set(box.run(fresh_spec("ls", "/dev")).ok().lines)
    assert found - {"core", "console"} == {*DEFAULTS, *LINKS, "ptmx", "pts", "shm", "mqueue"}


@pytest.mark.parametrize("umask", [0o022, 0o777, 0])
def test_device_of_the_spec(box: Box, umask: int) -> None:
    """Mode and owner exact under any umask."""
    spec = fresh_spec("stat", "-c", "%F %t:%T %a %u:%g", "/dev/mine", "/dev/deep/er/fifo")
    spec["linux"]["devices"] = [
        device("/dev/mine", "c", 10, 229, fileMode=0o646, uid=12, gid=34),
        device("/dev/deep/er/fifo", "p", 0, 0, fileMode=0o622, uid=1, gid=2),
    ]
    lines = box.run(spec, umask=umask).ok().lines
    assert lines == ["character special file a:e5 646 12:34", "fifo 0:0 622 1:2"]


@pytest.mark.parametrize("letter", ["c", "u", "b"])
def test_types_of_devices(box: Box, letter: str) -> None:
    """config-linux.md: u is an unbuffered character device."""
    spec = fresh_spec("stat", "-c", "%F", "/dev/mine")
    spec["linux"]["devices"] = [device("/dev/mine", letter, 7, 0)]
    word = "block" if letter == "b" else "character"
    assert box.run(spec).ok().out == f"{word} special file\n"


def test_default_mode_of_a_device(box: Box) -> None:
    spec = fresh_spec("stat", "-c", "%a %u:%g", "/dev/mine")
    spec["linux"]["devices"] = [device("/dev/mine", "c", 1, 3)]
    assert box.run(spec).ok().out in ("666 0:0\n", "0 0:0\n")


def test_device_outside_of_dev(box: Box) -> None:
    spec = fresh_spec("stat", "-c", "%t:%T", "/run/node")
    spec["linux"]["devices"] = [device("/run/node", "c", 1, 3, fileMode=0o666)]
    assert box.run(spec).ok().out == "1:3\n"


def test_default_device_may_be_named_again(box: Box) -> None:
    """Engines list /dev/null and its like as well."""
    spec = fresh_spec("stat", "-c", "%t:%T %a", "/dev/null")
    spec["linux"]["devices"] = [device("/dev/null", "c", 1, 3, fileMode=0o666, uid=0, gid=0)]
    allow(spec, "c", 1, 3)
    assert box.run(spec).ok().out == "1:3 666\n"


def test_devices_in_a_user_namespace(box: Box) -> None:
    """mknod is EPERM there: the host's nodes are bound."""
    spec = shell("stat -c '%t:%T' /dev/null /dev/zero; echo x > /dev/null && head -c 2 /dev/zero | wc -c")
    user_namespace(spec)
    assert box.run(spec).ok().lines == ["1:3", "1:5", "2"]


# --- the filter. 10:229 is fuse, which opens for reading and writing; where it does not exist ENXIO or ENODEV comes after
# the filter's EPERM. 1:11 is kmsg, 7:0 a loop device.

PASSED = ("ok", "ENXIO", "ENODEV")


def nodes(box: Box, spec: dict, *rows: str, mode: str = "rw") -> list[str]:
    """Make nodes with docker's capabilities and open them; `EPERM` is the filter's verdict."""
    made = (f"mknod /run/{n} {row} && probe open /run/{n} {mode}" for n, row in enumerate(rows))
    spec["process"]["args"] = ["sh", "-c", "; ".join(made)]
    spec["process"]["noNewPrivileges"] = False
    set_caps(spec, *DOCKER_CAPS)
    spec["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})
    return box.run(spec).ok().lines


@pytest.mark.parametrize("rules", ["deny all", "empty", "missing"])
def test_everything_else_is_denied(box: Box, rules: str) -> None:
    """V07: an empty list is not allow-all."""
    spec = fresh_spec()
    if rules == "empty":
        spec["linux"]["resources"]["devices"] = []
    if rules == "missing":
        spec["linux"]["resources"] = {}
    assert nodes(box, spec, "c 1 11", "b 7 0") == ["EPERM", "EPERM"]


def test_allowed_device_opens(box: Box) -> None:
    """The positive control of V07."""
    spec = fresh_spec()
    allow(spec, "c", 10, 229)
    found = nodes(box, spec, "c 10 229", "c 10 237")
    assert found[0] in PASSED
    assert found[1] == "EPERM"


def test_default_devices_are_allowed(box: Box) -> None:
    assert nodes(box, fresh_spec(), "c 1 3", "c 1 5", "c 1 9") == ["ok", "ok", "ok"]


def test_the_last_rule_wins(box: Box) -> None:
    """config-linux.md: in order."""
    spec = fresh_spec()
    allow(spec, "c", 10, 229)
    rule = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    spec["linux"]["resources"]["devices"].append(rule)
    assert nodes(box, spec, "c 10 229", mode="r") in (["EPERM"], [])


@pytest.mark.parametrize(("access", "reads", "writes"), [("r", True, False), ("w", False, True), ("rw", True, True)])
def test_access_letters(box: Box, access: str, reads: bool, writes: bool) -> None:
    for mode, passes in (("r", reads), ("w", writes)):
        spec = fresh_spec()
        allow(spec, "c", 10, 229, access + "m")
        found = nodes(box, spec, "c 10 229", mode=mode)
        assert (found[0] in PASSED) is passes, (mode, found)


def test_filter_survives_an_update(box: Box) -> None:
    """V07: after update --pids-limit."""
    spec = fresh_spec()
    spec["process"]["noNewPrivileges"] = False
    set_caps(spec, *DOCKER_CAPS)
    spec["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})
    container = box.parked(spec)
    script = "mknod /run/k c 1 11; probe open /run/k r; mknod /run/n c 1 3; probe open /run/n r"
    assert container.exec("sh", "-c", script).out.split()[-2:] == ["EPERM", "ok"]
    container.verb("update", "--pids-limit", "100").ok()
    script = script.replace("/run/", "/run/again")
    assert container.exec("sh", "-c", script).out.split()[-2:] == ["EPERM", "ok"]


def test_wildcard_rule(box: Box) -> None:
    """config-linux.md: no minor means all."""
    spec = fresh_spec()
    spec["linux"]["resources"]["devices"].append({"allow": True, "type": "c", "major": 10, "access": "rwm"})
    found = nodes(box, spec, "c 10 229", "b 7 0")
    assert found[0] in PASSED
    assert found[1] == "EPERM"


def test_v1_filter_is_in_the_cgroup(box: Box) -> None:
    """The kernel's own list: nothing but what the defaults and the spec allow."""
    if "devices" not in host.cgroup_mounts():
        pytest.skip("no v1 devices controller")
    spec = fresh_spec()
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    container = box.create(spec)
    rules = (host.cgroup_of(container.pid, "devices") / "devices.list").read_text().splitlines()
    assert "a *:* rwm" not in rules
    for number in DEFAULTS.values():
        assert any(rule.startswith(f"c {number} ") and "rw" in rule for rule in rules), (number, rules)
