"""The recipe for an additional process in a container (exec).

Runs in: exec (hot); pure.   Imports: linux.abi, plan.
Source:  setns(2); docs/decisions/0001; CVE-2016-9962, CVE-2024-21626 for the order.
Never:   opens a path of the container before it has joined it.

    skerry:1:outer   the host's namespaces, not dumpable from the first operation on
    skerry:2:join    v2 only: born in the cgroup, which is not possible from inside the container's namespaces
    skerry:3:exec    in the namespaces; becomes the program
"""

from errno import EBUSY, ESRCH

from skerry.linux import abi
from skerry.plan import begin, console, identity, masks, ops, program, scheduling
from skerry.plan.build import Plan
from skerry.plan.request import Request


def build(r: Request) -> Plan:
    """The plan of exec; success shows as end of file on the conversation, which execve closes.

    Shape   starts with fds 0-2, the preserved ones, plan, conversation, the pidfd of the container's init and (v2)
            the cgroup.
    """
    p = Plan(r.machine)
    p.fds[r.gate_fd] = "pidfd of the container's init"
    last_fd = r.gate_fd
    if r.cgroup_version == 2:
        p.fds[r.cgroup_fd] = "the cgroup's directory"
        last_fd = r.cgroup_fd
    begin.begin(p, r, last_fd=last_fd)
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)
    begin.wait_for(p, "our pid to be on record")
    if r.cgroup_version == 2:
        hints = {EBUSY: "the container has enabled controllers in its own cgroup"}
        begin.fork(p, "skerry:2:join", cgroup_fd=r.cgroup_fd, hints=hints)
    scheduling.set_exec_affinity(p, r)
    p.step("join the container's namespaces", "", {ESRCH: "the container has stopped"})
    if r.join:
        p.call("setns", r.gate_fd, r.join)
    if r.join_user:
        identity.become_root(p)
        p.call("prctl", abi.PR_SET_DUMPABLE, 0)  # a change of ids may have undone it (fs.suid_dumpable)
    begin.fork(p, "skerry:3:exec")
    identity.join_keyring(p, r)
    p.step("open the root")
    root = p.result("openat", abi.AT_FDCWD, "/", abi.O_PATH | abi.O_CLOEXEC, 0)
    if r.console:
        console.open_console(p, r, root, bind=False)
    console.own_session(p, r)
    what = program.Program(p, r)
    program.find_home(p, r, what, root)
    entered = program.enter_directory(p, r, root, make=False)
    if (r.process or {}).get("apparmorProfile"):
        masks.set_apparmor(p, r, masks.open_proc(p))
    p.step("close what the program shall not have")
    p.call("CLOSE", r.plan_fd, r.conversation_fd)
    path = program.become_user(p, r, what, entered)
    p.step("say that everything but the program is ready")
    p.call("SEND", ops.READY, 0, -1)
    begin.wait_for(p, "being on record")
    program.execute(p, r, what, path)
    return p
