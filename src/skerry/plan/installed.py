"""The recipe for a skerry-init that may not be run from memory: it becomes a read-only clone of its own file.

Runs in: create, exec, where the kernel refuses executable memory files; pure.   Imports: linux.abi, plan.
Source:  open_tree(2), mount_setattr(2), execveat(2); sysctl vm.memfd_noexec; CVE-2019-5736.
Never:   goes on from the file as it is installed: a container that reaches it by /proc/<pid>/exe could write it.
"""

from errno import EPERM

from skerry.linux import abi
from skerry.plan.build import BEFORE_THE_FIRST, Plan

HINT = "it cannot be run from memory, as the sysctl vm.memfd_noexec is 2 or a security module forbids it"


def build(machine: str, path: str, *, plan_fd: int, conversation_fd: int) -> Plan:
    """Clone the file as a mount of its own that nobody can write through, and execute that, on the plan proper.

    The mount is in no mount namespace, so no path leads to it, and it goes with its last process.
    """
    p = Plan(machine)
    p.process = BEFORE_THE_FIRST
    p.conversation_fd = conversation_fd
    p.step("start skerry-init from a read-only clone", "", {EPERM: f"needs CAP_SYS_ADMIN; {HINT}"})
    flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
    tree = p.result("open_tree", abi.AT_FDCWD, path, flags)
    attributes = abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV
    p.call("mount_setattr", tree, "", abi.AT_EMPTY_PATH, p.words([attributes, 0, 0, 0]), 32)
    argv = p.words([p.text("skerry-init"), p.text(str(plan_fd)), 0])
    p.call("execveat", tree, "", argv, p.words([0]), abi.AT_EMPTY_PATH)
    return p
