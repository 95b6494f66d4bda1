"""Which descriptors a process of a plan still holds when somebody in the container can look at it (V02, V12)."""

from skerry.plan import create, join
from skerry.plan.build import Op, Plan
from skerry.plan.request import Request


def request(**spec: object) -> Request:
    process = {"args": ["true"], "cwd": "/", "env": ["HOME=/"], "user": {"uid": 0, "gid": 0}}
    r = Request("x86_64", "a", {"ociVersion": "1.0.2", **spec}, process)
    r.rootfs_path = "/bundle/rootfs"
    r.cgroup_version = 2
    r.cgroup_unified = "/sys/fs/cgroup/a"
    return r


def calls(p: Plan, process: str) -> list[Op]:
    """The operations of a process; `skerry:2:join` is the first of that name."""
    return [op for op in p.ops if p.process_name(op.process) == process]


def test_cgroup_directory_goes_at_birth() -> None:
    """v2: born in the cgroup, a process has no more use for its directory, which is the host's."""
    namespaces = [{"type": kind} for kind in ("mount", "pid")]
    r = request(linux={"namespaces": namespaces})
    for plan, process in ((create.build(r), "skerry:2:init"), (join.build(r), "skerry:2:join")):
        first = [(op.call, *op.args[:1]) for op in calls(plan, process)][:2]
        assert first[1] == ("close", r.cgroup_fd)


def test_procfs_of_the_host_goes_before_the_joined_pid_namespace() -> None:
    """It shows every process of the host, to whoever gets hold of it."""
    namespaces = [{"type": "mount"}, {"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "network"}]
    r = request(linux={"namespaces": namespaces, "sysctl": {"net.ipv4.ip_forward": "1"}})
    ops = calls(create.build(r), "skerry:2:join")
    opened = next(op for op in ops if op.call == "fsmount" and "procfs" in op.label.text)
    names = [(op.call, *op.args[:1]) for op in ops]
    joined = next(n for n, op in enumerate(ops) if op.label.text.startswith("join pid"))
    assert ("close", opened.dst) in names[ops.index(opened) : joined]


def test_exec_opens_its_procfs_inside() -> None:
    """For the AppArmor label: one of the host would be open while the container looks."""
    r = request()
    assert r.process is not None
    r.process["apparmorProfile"] = "mine"
    plan = join.build(r)
    assert not [op for op in calls(plan, "skerry:1:outer") if "/proc" in op.label.text]
    assert [op for op in calls(plan, "skerry:3:exec") if op.label.text == "open a private procfs"]
