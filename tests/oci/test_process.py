"""process: args, env, cwd, user, capabilities, limits, and what must not reach the container."""

import os
import resource
import signal

import pytest
from support import host
from support.box import Box
from support.spec import CAPS, DOCKER_CAPS, PATH, drop_namespace, fresh_spec, set_caps, shell

ALL_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
NUMBER = {
    "CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21,
    "CAP_AUDIT_WRITE": 29,
}  # fmt: skip


def mask(*names: str) -> int:
    return sum(1 << NUMBER[name] for name in names)


def status(box: Box, spec: dict) -> dict[str, str]:
    """Run cat in the place of the program: no shell in between changes anything."""
    spec["process"]["args"] = ["cat", "/proc/self/status"]
    return box.run(spec).ok().fields()


# --- args, env, cwd

def test_args_arrive_as_they_are(box: Box) -> None:
    words = ["a b", "", "*", "ü€", "--", "-x", "\n", "'\"", "$PATH"]
    out = box.run(fresh_spec("printf", "%s\\0", *words)).ok().out
    assert out.split("\0")[:-1] == words


def test_program_is_found_by_the_path_of_the_spec(box: Box) -> None:
    spec = fresh_spec("only-here")
    for path, code in ((PATH, 1), ("PATH=/nowhere:/vol", 0)):
        spec["process"]["env"] = [path]
        where = box.bundle(spec)
        program = where / "rootfs/vol/only-here"
        program.write_text("#!/bin/true\n")
        program.chmod(0o755)
        assert box.run(None, bundle=where).code == code


def test_relative_program_is_taken_from_cwd(box: Box) -> None:
    spec = fresh_spec("./busybox", "echo", "up")
    spec["process"]["cwd"] = "/bin"
    assert box.run(spec).ok().out == "up\n"


def test_last_of_equal_names_in_env_wins(box: Box) -> None:
    """Programs read such an environment in two ways; runc and crun hand over the last."""
    spec = fresh_spec("env")
    spec["process"]["env"] += ["A=1", "B=2", "A=3"]
    assert [line for line in box.run(spec).ok().lines if line[:2] in ("A=", "B=")] == ["A=3", "B=2"]


def test_env_is_exactly_that_of_the_spec(box: Box) -> None:
    """V58: and HOME, if it is not there."""
    spec = fresh_spec("env")
    spec["process"]["env"] += ["A=1", "EMPTY=", "B=x=y", "U=ü"]
    lines = box.run(spec, env={"SECRET": "caller"}).ok().lines
    assert sorted(lines) == sorted([*spec["process"]["env"], "HOME=/root"])


def test_no_env(box: Box) -> None:
    spec = fresh_spec("/bin/env")
    del spec["process"]["env"]
    assert box.run(spec).ok().lines == ["HOME=/root"]


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/user"), (4242, "/")])
def test_home_from_the_image(box: Box, uid: int, home: str) -> None:
    """decisions 24: by the number; nothing found is `/`."""
    spec = fresh_spec("env")
    spec["process"]["user"] = {"uid": uid, "gid": uid}
    assert f"HOME={home}" in box.run(spec).ok().lines


def test_home_of_the_spec_wins(box: Box) -> None:
    spec = fresh_spec("env")
    spec["process"]["env"].append("HOME=/mine")
    assert [line for line in box.run(spec).ok().lines if line.startswith("HOME")] == ["HOME=/mine"]


def test_cwd(box: Box) -> None:
    spec = fresh_spec("pwd")
    spec["process"]["cwd"] = "/usr/bin"
    assert box.run(spec).ok().out == "/usr/bin\n"


def test_missing_cwd_is_made(box: Box) -> None:
    """decisions 26: 0755, below the root."""
    spec = shell("pwd; stat -c %a .")
    spec["process"]["cwd"] = "/made/for/me"
    spec["root"]["readonly"] = False
    assert box.run(spec).ok().lines == ["/made/for/me", "755"]


def test_cwd_only_the_user_may_enter(box: Box) -> None:
    """security 5.3: chdir again after the switch."""
    spec = fresh_spec("pwd")
    spec["process"]["cwd"] = "/home/user"
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    where = box.bundle(spec)
    home = where / "rootfs/home/user"
    home.mkdir(parents=True)
    os.chown(home, 1000, 1000)
    home.chmod(0o700)
    assert box.run(None, bundle=where).ok().out == "/home/user\n"


# --- user

def test_user_and_groups(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 2000, 70000]}
    found = status(box, spec)
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1001"] * 4
    assert sorted(map(int, found["Groups"].split())) == [5, 2000, 70000]


@pytest.mark.parametrize("groups", [None, []])
@pytest.mark.parametrize("uid", [0, 1000])
def test_groups_of_the_caller_never_arrive(box: Box, uid: int, groups: list | None) -> None:
    """V56."""
    spec = fresh_spec("cat", "/proc/self/status")
    spec["process"]["user"] = {"uid": uid, "gid": uid}
    if groups is not None:
        spec["process"]["user"]["additionalGids"] = groups
    found = box.run(spec, groups=[4, 24]).ok().fields()
    assert found["Groups"] in ("", str(uid))


@pytest.mark.parametrize("uid", [2147483647, 2147483648, 4294967294])
def test_large_uids(box: Box, uid: int) -> None:
    """V37: that uid or an error, never another."""
    spec = fresh_spec("cat", "/proc/self/status")
    spec["process"]["user"] = {"uid": uid, "gid": uid}
    result = box.run(spec)
    if result.code == 0:
        assert result.fields()["Uid"].split() == [str(uid)] * 4
        assert result.fields()["Gid"].split() == [str(uid)] * 4
    else:
        result.failed(1)


@pytest.mark.skerry_only("V37: the whole range works")
def test_every_uid_below_the_last_works(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["user"] = {"uid": 4294967294, "gid": 4294967294}
    assert status(box, spec)["Uid"].split() == ["4294967294"] * 4


@pytest.mark.parametrize("umask", [0o077, 0o027, 0, 0o777])
def test_umask(box: Box, umask: int) -> None:
    spec = fresh_spec()
    spec["process"]["user"]["umask"] = umask
    assert status(box, spec)["Umask"] == f"{umask:04o}"


@pytest.mark.parametrize("callers", [0, 0o777, 0o077])
def test_umask_of_the_caller_never_arrives(box: Box, callers: int) -> None:
    """decisions 25, P06."""
    found = box.run(fresh_spec("cat", "/proc/self/status"), umask=callers).ok().fields()
    assert found["Umask"] == "0022"


# --- capabilities

def test_five_sets(box: Box) -> None:
    """config.md: each set as it is written."""
    spec = fresh_spec()
    caps = spec["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_ADMIN"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_KILL"],
    }
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    found = status(box, spec)
    assert int(found["CapBnd"], 16) == mask(*caps["bounding"])
    assert int(found["CapInh"], 16) == mask(*caps["inheritable"])
    assert int(found["CapAmb"], 16) == mask("CAP_KILL")
    # execve of a program without file capabilities keeps the ambient set and nothing else
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == mask("CAP_KILL")


def test_root_gets_what_the_bounding_set_allows(box: Box) -> None:
    found = status(box, fresh_spec())
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert int(found[name], 16) == mask(*CAPS)
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0


def test_user_without_ambient_has_none(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    found = status(box, spec)
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == 0
    assert int(found["CapBnd"], 16) == mask(*CAPS)


@pytest.mark.parametrize("form", ["missing", "empty", "empty lists"])
def test_no_capabilities(box: Box, form: str) -> None:
    spec = fresh_spec()
    if form == "missing":
        del spec["process"]["capabilities"]
    else:
        spec["process"]["capabilities"] = {} if form == "empty" else {name: [] for name in ALL_SETS}
    found = status(box, spec)
    assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_unknown_capability_is_a_warning(box: Box) -> None:
    """security 8: config.md says the runtime must log a warning and go on."""
    spec = fresh_spec("cat", "/proc/self/status")
    set_caps(spec, *CAPS, "CAP_MADE_UP")
    result = box.run(spec).ok()
    assert int(result.fields()["CapBnd"], 16) == mask(*CAPS)


@pytest.mark.skerry_only("security 8: a warning")
def test_unknown_capability_warning_names_it(box: Box) -> None:
    spec = fresh_spec()
    set_caps(spec, *CAPS, "CAP_MADE_UP")
    assert "CAP_MADE_UP" in box.run(spec).ok().err


def test_missing_capability_is_missing(box: Box) -> None:
    """Positive and negative control of chown in one container."""
    script = "touch /tmp/x && chown 1:1 /tmp/x; echo $?"
    spec = shell(script)
    spec["root"]["readonly"] = False
    assert box.run(spec).ok().lines[-1] != "0"
    spec = shell(script)
    spec["root"]["readonly"] = False
    set_caps(spec, *DOCKER_CAPS)
    assert box.run(spec).ok().lines[-1] == "0"


# --- limits, scheduling, no_new_privs

LIMITS = {
    "RLIMIT_CORE": ("Max core file size", 0, 0), "RLIMIT_CPU": ("Max cpu time", 100, 200),
    "RLIMIT_DATA": ("Max data size", 1 << 30, 1 << 31), "RLIMIT_FSIZE": ("Max file size", 1 << 20, 1 << 21),
    "RLIMIT_LOCKS": ("Max file locks", 5, 6), "RLIMIT_MEMLOCK": ("Max locked memory", 4096, 8192),
    "RLIMIT_MSGQUEUE": ("Max msgqueue size", 4096, 8192), "RLIMIT_NICE": ("Max nice priority", 0, 0),
    "RLIMIT_NOFILE": ("Max open files", 100, 200), "RLIMIT_NPROC": ("Max processes", 1000, 2000),
    "RLIMIT_RSS": ("Max resident set", 1 << 30, 1 << 31), "RLIMIT_RTPRIO": ("Max realtime priority", 0, 0),
    "RLIMIT_RTTIME": ("Max realtime timeout", 1000, 2000), "RLIMIT_SIGPENDING": ("Max pending signals", 50, 60),
    "RLIMIT_STACK": ("Max stack size", 1 << 23, 1 << 24), "RLIMIT_AS": ("Max address space", 1 << 32, 1 << 33),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_rlimit(box: Box, name: str) -> None:
    label, soft, hard = LIMITS[name]
    spec = fresh_spec("cat", "/proc/self/limits")
    spec["process"]["rlimits"] = [{"type": name, "soft": soft, "hard": hard}]
    line = next(line for line in box.run(spec).ok().lines if line.startswith(label))
    assert line.removeprefix(label).split()[:2] == [str(soft), str(hard)]


def test_rlimit_unlimited(box: Box) -> None:
    """2^64-1 is RLIM_INFINITY."""
    spec = fresh_spec("cat", "/proc/self/limits")
    spec["process"]["rlimits"] = [{"type": "RLIMIT_FSIZE", "soft": 2**64 - 1, "hard": 2**64 - 1}]
    line = next(line for line in box.run(spec).ok().lines if line.startswith("Max file size"))
    assert line.split()[3:5] == ["unlimited", "unlimited"]


def test_rlimits_of_the_caller_pass(box: Box) -> None:
    """decisions 25: what the spec does not set is inherited."""
    spec = fresh_spec("cat", "/proc/self/limits")
    del spec["process"]["rlimits"]
    line = next(line for line in box.run(spec).ok().lines if line.startswith("Max open files"))
    assert line.split()[3:5] == [str(n) for n in resource.getrlimit(resource.RLIMIT_NOFILE)]


@pytest.mark.skipif(host.has_capability(host.CAP_SYS_RESOURCE), reason="needs a host without CAP_SYS_RESOURCE")
def test_rlimit_above_the_hosts_is_refused(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1 << 20, "hard": 1 << 20}]
    box.refuses(spec)


@pytest.mark.skerry_only("engines 2: the text names capability and pointer")
@pytest.mark.skipif(host.has_capability(host.CAP_SYS_RESOURCE), reason="needs a host without CAP_SYS_RESOURCE")
def test_rlimit_refusal_text(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1 << 20, "hard": 1 << 20}]
    box.refuses(spec, "/process/rlimits/0", "CAP_SYS_RESOURCE")


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(box: Box, value: bool) -> None:
    spec = fresh_spec()
    spec["process"]["noNewPrivileges"] = value
    assert status(box, spec)["NoNewPrivs"] == str(int(value))


def test_no_new_privileges_is_false_by_default(box: Box) -> None:
    spec = fresh_spec()
    del spec["process"]["noNewPrivileges"]
    assert status(box, spec)["NoNewPrivs"] == "0"


def test_oom_score(box: Box) -> None:
    spec = fresh_spec("cat", "/proc/self/oom_score_adj")
    spec["process"]["oomScoreAdj"] = 444
    assert box.run(spec).ok().out == "444\n"


@pytest.mark.skipif(host.has_capability(host.CAP_SYS_RESOURCE), reason="needs a host without CAP_SYS_RESOURCE")
def test_lower_oom_score_than_the_hosts_is_refused(box: Box) -> None:
    """engines 2."""
    spec = fresh_spec()
    spec["process"]["oomScoreAdj"] = -998
    box.refuses(spec)


def test_io_priority(box: Box) -> None:
    """best effort is class 2, in the top three of 16 bits; ioprio_get(1, 0) asks for oneself."""
    spec = fresh_spec("probe", "call", "ioprio_get", "1", "0")
    spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    assert box.run(spec).ok().out == f"{2 << 13 | 6}\n"


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, "3 0 5 0"),
        ({"policy": "SCHED_OTHER", "nice": 7}, "0 0 7 0"),
        ({"policy": "SCHED_IDLE"}, "5 0 0 0"),
        ({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "3 1 0 0"),
    ],
    ids=["batch", "other", "idle", "flags"],
)
def test_scheduler(box: Box, scheduler: dict, wanted: str) -> None:
    spec = fresh_spec("probe", "sched")
    spec["process"]["scheduler"] = scheduler
    assert " ".join(box.run(spec).ok().out.split()[:4]) == wanted


@pytest.mark.parametrize(("domain", "number"), [("LINUX32", 8), ("LINUX", 0)])
def test_personality(box: Box, domain: str, number: int) -> None:
    spec = fresh_spec("probe", "call", "personality", "0xffffffff")
    spec["linux"]["personality"] = {"domain": domain}
    assert box.run(spec).ok().out == f"{number}\n"


def test_memory_policy(box: Box) -> None:
    """config-linux.md 1.3: interleave is mode 3, static nodes flag 1 << 15."""
    spec = fresh_spec("probe", "policy")
    policy = {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    spec["linux"]["memoryPolicy"] = policy
    assert box.run(spec).ok().out == f"{3 | 1 << 15} 1\n"


# --- what must not reach the container

def test_signals_are_at_their_defaults(box: Box) -> None:
    """P05: whatever the caller and the interpreter ignore or block."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        found = status(box, fresh_spec())
    finally:
        signal.signal(signal.SIGPIPE, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert int(found["SigBlk"], 16) == int(found["SigIgn"], 16) == int(found["SigCgt"], 16) == 0


def test_pipes_break(box: Box) -> None:
    """P05: `yes | head -1` ends."""
    spec = shell("while :; do echo y; done | head -n 1")
    assert box.run(spec).ok().out == "y\n"


def test_affinity_is_that_of_the_cgroup(box: Box) -> None:
    """decisions 25: reset to the cpuset, whatever the caller's is."""
    mine = os.sched_getaffinity(0)
    wanted = status(box, fresh_spec())["Cpus_allowed_list"]
    os.sched_setaffinity(0, [min(mine)])
    try:
        assert status(box, fresh_spec())["Cpus_allowed_list"] == wanted
    finally:
        os.sched_setaffinity(0, mine)


def test_nice_is_inherited(box: Box) -> None:
    """decisions 25. The raw call gives 20 - nice."""
    spec = fresh_spec("probe", "call", "getpriority", "0", "0")
    assert box.run(spec).ok().out == "20\n"


def test_init_leads_its_session(box: Box) -> None:
    """decisions 6."""
    container = box.parked(fresh_spec())
    assert os.getsid(container.pid) == container.pid


def test_init_is_not_traced_or_named_after_the_runtime(box: Box) -> None:
    container = box.parked(fresh_spec())
    found = host.status_of(container.pid)
    assert (found["Name"], found["TracerPid"], found["Threads"]) == ("probe", "0", "1")
    assert os.readlink(f"/proc/{container.pid}/exe") == "/bin/probe"


def test_no_parent_death_signal(box: Box) -> None:
    """decisions 1: a detached container outlives the process that made it, and the one that started it."""
    container = box.parked(fresh_spec())
    assert container.status == "running"


def test_without_pid_namespace(box: Box) -> None:
    spec = shell("echo $$")
    drop_namespace(spec, "pid")
    assert int(box.run(spec).ok().out) > 1


@pytest.mark.skerry_only("features: refuse on Linux, naming the field")
def test_username_is_refused(box: Box) -> None:
    spec = fresh_spec()
    spec["process"]["user"]["username"] = "user"
    box.refuses(spec, "/process/user/username")
