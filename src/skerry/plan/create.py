"""The recipe for a new container, from the host's namespaces to the gate and execve.

Runs in: create (hot); pure.   Imports: plan.
Source:  docs/decisions/0001 and 0003; the order is argued line by line below.
Never:   looks at the host; what it must know is in the Request.

    skerry:1:outer   the host's namespaces: takes trees and namespaces by fd, forks
    skerry:2:init    born in the new namespaces and in the cgroup; becomes the program
    (skerry:2:join   instead, where something is joined by path or a time namespace is made; then skerry:3:init)
"""

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.plan import (
    begin,
    console,
    devices,
    hooks,
    identity,
    limits,
    masks,
    mounts,
    namespaces,
    ops,
    program,
    rootfs,
    scheduling,
)
from skerry.plan.build import Data, Plan, Reg
from skerry.plan.request import Request


def build(r: Request) -> Plan:
    """The plan of create and start.

    Shape   starts with fds 0-2, the preserved ones, plan, conversation, gate and (v2) the cgroup.
    Errors  SpecError for what only shows when the plan is laid out.
    """
    p = Plan(r.machine)
    p.fds[r.gate_fd] = "the gate"
    last_fd = r.gate_fd
    cgroup_fd = -1
    if r.cgroup_version == 2:
        p.fds[r.cgroup_fd] = "the cgroup's directory"
        cgroup_fd = last_fd = r.cgroup_fd
    begin.begin(p, r, last_fd=last_fd)
    # Everything that needs the host's view is held by fd before the first namespace is made.
    mounts_ = mounts.read(r)
    nodes = devices.read(r)
    paths = namespaces.open_paths(p, r)
    mounts.take_sources(p, r, mounts_)
    devices.take_nodes(p, r, nodes)
    tree = rootfs.take(p, r)
    limits.filter_devices(p, r, cgroup_fd)
    begin.wait_for(p, "our pid to be on record")
    if namespaces.needs_join_stage(r):
        namespaces.join_and_unshare(p, r, paths, cgroup_fd=cgroup_fd)
        if "pid" not in paths:
            begin.fork(p, "skerry:3:init")
    else:
        namespaces.enter_new(p, r, cgroup_fd=cgroup_fd)
    identity.join_keyring(p, r)
    namespaces.bring_up_loopback(p, r)
    proc = _fill(p, r, tree, mounts_, nodes, paths)
    if "pid" in paths:
        # After the pivot: earlier, processes of that namespace could see the host through our /proc entry. And without
        # a procfs made outside of it, which shows the host's.
        if proc is not None:
            p.close(proc)
        namespaces.join_pid(p, r, paths["pid"])
        begin.fork(p, "skerry:3:init")
        proc = None
    _finish(p, r, proc)
    return p


def _proc(p: Plan, r: Request) -> "Reg | None":
    """Only where something is written through it; before the pivot, after which it may be refused."""
    if r.linux.get("sysctl") or (r.process or {}).get("apparmorProfile"):
        return masks.open_proc(p)
    return None


def _fill(
    p: Plan,
    r: Request,
    tree: Reg,
    mounts_: "list[mounts.Mount]",
    nodes: "list[devices.Device]",
    paths: "dict[str, Reg]",
) -> "Reg | None":
    """The container's mount namespace, up to and with the pivot.

    Result  a private procfs, where one is needed.
    """
    empty = masks.make_empty(p, r)
    rootfs.place(p, r, tree, empty)
    late = mounts.attach_all(p, r, mounts_, tree, paths.get("pid"))
    devices.make(p, r, nodes, tree)
    # Hooks before the pivot, when the file system is whole but the host's programs can still be run.
    hooks.due(p, r)
    if r.console:
        console.open_console(p, r, tree, bind=True)
    proc = _proc(p, r)
    # Settings first: /proc/sys becomes read-only next. Masks last, they cover files of the paths above.
    if proc is not None:
        masks.set_sysctls(p, r, proc)
    masks.set_readonly_paths(p, r, tree, mounts_)
    masks.mask_paths(p, r, tree, mounts_, empty)
    mounts.let_go(p, mounts_)
    mounts.finish_readonly(p, late)
    rootfs.pivot(p, r, tree)
    _names(p, r)
    return proc


def _names(p: Plan, r: Request) -> None:
    for key, call in (("hostname", "sethostname"), ("domainname", "setdomainname")):
        name = r.spec.get(key)
        if name:
            p.step(f"set the {key} to {name}", f"/{key}")
            p.call(call, name, len(name.encode()))


def _finish(p: Plan, r: Request, proc: "Reg | None") -> None:
    """In the process that becomes the program."""
    console.own_session(p, r)
    if r.process is None:
        _hold(p, r)
        return
    p.step("open the root")
    root = p.result("openat", abi.AT_FDCWD, "/", abi.O_PATH | abi.O_CLOEXEC, 0)
    what = program.Program(p, r)
    program.find_home(p, r, what, root)
    entered = program.enter_directory(p, r, root, make=True)
    # The root last of all mounts: nothing more is made in it.
    rootfs.make_readonly(p, r, root)
    if (r.process or {}).get("apparmorProfile"):
        masks.set_apparmor(p, r, masks.open_proc(p) if proc is None else proc)
    scheduling.use_every_cpu(p)  # the limits were set before the hooks ran
    _check_descriptors(r)
    signals = _close_others(p, r)
    path = program.become_user(p, r, what, entered)
    _ready(p)
    p.step("wait to be on record")
    state = hooks.receive_state(p, r, "startContainer")
    _gate(p, r, signals)
    _after_gate(p, r, what, state, path)


def _check_descriptors(r: Request) -> None:
    """What `start` sends is one more fd, and the limits hold by then."""
    needed = 4 + r.preserve
    for index, entry in enumerate((r.process or {}).get("rlimits") or ()):
        if entry["type"] == "RLIMIT_NOFILE" and entry["soft"] < needed:
            rule = f"{entry['soft']} leaves no descriptor to start with, {needed} are needed"
            raise SpecError(f"{r.pointer}/rlimits/{index}/soft", rule)


def _after_gate(
    p: Plan, r: Request, what: program.Program, state: "tuple[Data, int]", path: Reg
) -> None:
    hooks.start_container(p, r, what, state)
    program.execute(p, r, what, path)


def build_end(r: Request) -> Plan:
    """What comes after the gate, and nothing else: for `start`, to name a step that failed.

    Its operations are the last ones of `build`, in the same order.
    """
    p = Plan(r.machine)
    p.processes.append("skerry:init")
    if r.process is not None:
        what = program.Program(p, r)
        register = Reg(0)
        _after_gate(p, r, what, hooks.NO_STATE, register)
    return p


def _close_others(p: Plan, r: Request) -> Reg:
    """Before a filter or the user switch can stop it: nothing stays open but what the gate needs.

    All of that is close-on-exec, and so is the pipe that start will send.
    """
    p.step("close what the program shall not have")
    signals = p.result("signalfd4", -1, p.blob(b"\xff" * 8), 8, abi.O_CLOEXEC)
    p.call("CLOSE", r.plan_fd, r.conversation_fd, r.gate_fd, signals)
    return signals


def _ready(p: Plan) -> None:
    p.step("say that everything but the program is ready")
    p.call("SEND", ops.READY, 0, -1)


def _gate(p: Plan, r: Request, signals: Reg) -> Reg:
    p.step("wait at the gate for start")
    p.call("close", r.conversation_fd)
    return p.result("GATE", r.gate_fd, signals)


def _hold(p: Plan, r: Request) -> None:
    """A sandbox without a process: keep its namespaces."""
    signals = _close_others(p, r)
    begin.block_signals(p)
    _ready(p)
    begin.wait_for(p, "being on record")
    _gate(p, r, signals)
    p.step("hold the namespaces")
    p.call(
        "CLOSE", 0
    )  # the gate first, for it has the lower number: who reads the pipe's end finds it opened
    p.call("PARK")
