"""The program: its environment, directory and seccomp filter, the gate, execve.

Runs in: create, exec (hot); pure.   Imports: linux.abi, plan.
Source:  runtime-spec config.md "Process", config-linux.md "Seccomp"; execve(2), seccomp(2).
Never:   chooses what runs; it finds out as early as it can whether it can run.
"""

from errno import EACCES, EBADF, EINVAL, EISDIR, ELOOP, EMFILE, ENOENT, ENOTDIR, EPERM

from skerry.linux import abi
from skerry.plan import ops
from skerry.plan.begin import block_signals, unblock_signals
from skerry.plan.build import Data, Plan, Reg
from skerry.plan.identity import (
    drop_bounding,
    own_stdio,
    set_capabilities,
    set_limits,
    set_no_new_privs,
    set_umask,
    switch_user,
)
from skerry.plan.request import Request
from skerry.plan.scheduling import schedule

HOME_BYTES = 4096
PASSWD_LIMIT_BYTES = 1 << 20
# execvp(3) looks here when there is no PATH
_DEFAULT_PATH = "/bin:/usr/bin"
_SFD_CLOEXEC = 0o2000000
_FILTER_FLAG_NEW_LISTENER = 8
_NOT_FOUND = "executable file not found in $PATH"


class Program:
    """argv, envp and the candidates for the file, laid out in the plan's data."""

    __slots__ = ("argv", "envp", "home", "candidates", "count", "name")

    def __init__(self, p: Plan, r: Request) -> None:
        process = r.process or {}
        args, env = process["args"], _last_of_each_name([*(process.get("env") or ()), *r.extra_env])
        self.name = args[0]
        self.home: Data | None = None
        words: list[int | Data] = [p.text(entry) for entry in env]
        if not any(entry.startswith("HOME=") for entry in env):
            self.home = p.blob(b"HOME=/" + bytes(HOME_BYTES - 6))
            words.append(self.home)
        self.envp = p.words([*words, 0])
        self.argv = p.words([*[p.text(arg) for arg in args], 0])
        paths = _candidates(args[0], env)
        self.candidates = p.words([p.text(path) for path in paths])
        self.count = len(paths)


def _last_of_each_name(env: "list[str]") -> "list[str]":
    """An environment with one name twice is read in two ways by programs; as in runc and crun the last one counts."""
    return list({entry.partition("=")[0]: entry for entry in env}.values())


def _candidates(name: str, env: "list[str]") -> "list[str]":
    """Where the program may be: itself if it has a slash, else below each directory of PATH."""
    if "/" in name:
        return [name]
    path = _DEFAULT_PATH
    for entry in env:
        if entry.startswith("PATH="):
            path = entry[5:]
    return [f"{directory or '.'}/{name}" for directory in path.split(":")]


def find_home(p: Plan, r: Request, program: Program, root: Reg) -> None:
    """Without HOME in the environment: let the parent find it in the image's passwd file, by number.

    The file is the image's: only a regular file is read, with bounds, and here: one on a FUSE file system of the
    container may never answer, and only we are waited for with a deadline. The parent gets a copy. It never decides
    who we are.
    """
    if program.home is None:
        return
    p.step("look for HOME in /etc/passwd", f"{r.pointer}/env")
    absent, irregular = p.mark(), p.mark()
    flags = abi.O_RDONLY | abi.O_NONBLOCK | abi.O_NOCTTY | abi.O_CLOEXEC
    how = p.words([flags, 0, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS])
    passwd = p.result("openat2", root, "etc/passwd", how, 24, jump=(), to=absent)
    p.call("CHECK", passwd, abi.S_IFREG, 0, 0, 0, jump=(), to=irregular)
    copy = _memory_file(p, "passwd")
    p.call("sendfile", copy, passwd, 0, PASSWD_LIMIT_BYTES, ignore=())
    p.call("lseek", copy, 0, 0)
    p.call("SEND", ops.PASSWD, 0, copy)
    p.call("RECV", ops.REPLY, program.home, HOME_BYTES)
    p.close(copy)
    p.place(irregular)
    p.close(passwd)
    p.place(absent)


def _memory_file(p: Plan, name: str) -> Reg:
    """A memfd that nobody can execute: the only kind where vm.memfd_noexec is 2.

    Before Linux 6.3 there is no such flag.
    """
    old, done = p.mark(), p.mark()
    flags = abi.MFD_CLOEXEC | abi.MFD_NOEXEC_SEAL
    fd = p.result("memfd_create", name, flags, jump=(EINVAL,), to=old)
    p.goto(done)
    p.place(old)
    p.result("memfd_create", name, abi.MFD_CLOEXEC, into=fd)
    p.place(done)
    return fd


def enter_directory(p: Plan, r: Request, root: Reg, *, make: bool) -> Reg:
    """Go to cwd while still privileged; what getcwd says must be inside.

    `make`  it if it is missing (decisions 26): for init, not for an exec.
    Result  a register that holds 0 if we are there. A directory of a network or FUSE file system may be closed to root
            and open to the user; `become_user` tries again then.
    """
    cwd = (r.process or {})["cwd"]
    p.step(f"enter the directory {cwd}", f"{r.pointer}/cwd", {ENOTDIR: "it is not a directory"})
    flags = ops.WALK_DIRECTORY | (0 if make else ops.WALK_EXISTING)
    directory = p.result("WALK", root, cwd, flags, 0o755, ignore=(EACCES, EPERM))
    entered = p.result("fchdir", directory, ignore=(EACCES, EPERM, EBADF))
    p.call("close", directory, ignore=(EBADF,))
    # A directory outside the root, reached by a leaked fd, has no absolute path (CVE-2024-21626).
    p.call("CHECKCWD")
    return entered


def become_user(p: Plan, r: Request, program: Program, entered: Reg) -> "Reg":
    """Everything between the finished file system and READY, in the order that keeps each step possible.

    Result  the register with the program's path.
    """
    set_no_new_privs(p, r)
    own_stdio(p, r)
    set_limits(p, r)
    set_umask(p, r)
    schedule(p, r)
    late_filter = bool((r.process or {}).get("noNewPrivileges"))
    if not late_filter:
        install_filter(p, r)  # without no_new_privs it takes CAP_SYS_ADMIN, which goes next
    drop_bounding(p, r)
    switch_user(p, r)
    set_capabilities(p, r)
    _check_directory(p, r, entered)
    path = find_program(p, r, program)
    p.step("block signals")
    block_signals(p)
    if late_filter:
        install_filter(p, r)  # as few calls as possible come after it
    return path


def _check_directory(p: Plan, r: Request, entered: Reg) -> None:
    cwd = (r.process or {})["cwd"]
    p.step(f"enter the directory {cwd}", f"{r.pointer}/cwd")
    there = p.mark()
    p.branch(entered, ops.EQ, 0, there)
    p.call("chdir", cwd)
    p.place(there)
    p.call("CHECKCWD")


def find_program(p: Plan, r: Request, program: Program) -> Reg:
    """As the final user: a missing program must fail create, not start."""
    hints = {ENOENT: _NOT_FOUND if "/" not in program.name else ""}
    p.step(f'find "{program.name}"', f"{r.pointer}/args/0", hints)
    return p.result("FIND", program.candidates, program.count)


def install_filter(p: Plan, r: Request) -> None:
    filter = r.seccomp
    if filter is None:
        return
    p.step("install the seccomp filter", "/linux/seccomp")
    code = p.blob(filter.filter)
    header = p.words([len(filter.filter) // 8, code])
    flags = filter.flags | (_FILTER_FLAG_NEW_LISTENER if filter.listener else 0)
    listener = p.result("seccomp", abi.SECCOMP_SET_MODE_FILTER, flags, header)
    if filter.listener:
        # By number, for the parent to fetch: sending an fd takes calls that the filter may stop.
        p.step("hand out the seccomp listener", "/linux/seccomp/listenerPath")
        p.call("SEND", ops.FD, listener, -1)
        p.call("RECV", ops.GO, p.text(""), 0)
        p.call("close", listener)


def execute(p: Plan, r: Request, program: Program, path: Reg) -> None:
    hints = {
        EACCES: "permission denied",
        ENOENT: "the interpreter of a script, or the loader of a binary, is missing",
        EISDIR: "it is a directory",
        ELOOP: "",
        EMFILE: "",
    }
    p.step(f'execute "{program.name}"', f"{r.pointer}/args", hints)
    unblock_signals(p)
    p.call("execve", path, program.argv, program.envp)
