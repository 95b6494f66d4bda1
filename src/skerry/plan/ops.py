"""THE table of operations: what Python may ask of skerry-init, and the layout both sides agree on.

Runs in: create, exec (hot); pure.   Imports: nothing.
Source:  `tools/gen_ops.py` prints this file as `init/ops.h`; a test regenerates and compares.
Never:   holds an OCI word or a policy.

A plan is one file (a sealed memfd), little endian, mapped privately by skerry-init:

    header | operations | relocations (u32 each) | data

An operation is a system call, or one of the specials below, with up to six arguments. An argument is a number, an
offset into the data (becomes a pointer), or a register (an earlier result, -1 before); what is not used is zero. A
relocation is an offset into the data where an aligned u64 holds an offset into the data; skerry-init turns it into a
pointer before the first operation. The data ends with a zero byte that no operation writes, so a string never runs past
it.

What a failure (a result in -4095..-1) means is said by `fail`: FATAL reports (operation, errno) and ends the process with
status 1; IGNORE goes on if the errno is one of `errnos`; JUMP goes on at `target` if it is. An empty list means any errno;
any other errno is fatal. IGNORE and JUMP store the negative errno in the result register. Operations without a result
store 0. Jumps lead forward only, so every plan ends; past the last operation the process ends with status 0.

skerry-init checks all of a plan before the first operation and refuses it whole (REFUSALS) with status 121.
"""

MAGIC = 0x59524B53  # "SKRY"
VERSION = 1
PLAN_LIMIT_BYTES = 16 << 20
REGISTERS = 2048
ARGUMENTS = 6
ERRNOS = 4
NO_REGISTER = 0xFFFF
DATA_ALIGN_BYTES = 8
RECORD_LIMIT_BYTES = 64 << 10  # what may follow a record in one packet
HOOK_OUTPUT_BYTES = 512
EXIT_FAILED, EXIT_REFUSED = 1, 121
NO_OPERATION = 0xFFFFFFFF  # operation in the FAILED record of a refused plan

# magic, version, total bytes, number of operations, relocations, registers used, offset and length of data, plan's own
# conversation fd (-1: none), reserved. The data ends with a zero byte, so that a string never runs past it.
HEADER_FORMAT = "<IIIIIIIIiI"
# code, dst, syscall number, fail, number of arguments, errnos, target, kinds of the arguments, process, reserved, args
OP_FORMAT = "<HHHBB4HI6BHI6Q"
# The conversation (decisions.md 3): kind, operation, errno, process, value
RECORD_FORMAT = "<IIiIQ"

FATAL, IGNORE, JUMP = 0, 1, 2
NUMBER, DATA, REGISTER = 0, 1, 2

FAIL = {"FATAL": FATAL, "IGNORE": IGNORE, "JUMP": JUMP}
KIND = {"NUMBER": NUMBER, "DATA": DATA, "REGISTER": REGISTER}

# name -> (code, arguments, what it does, why system calls alone cannot do it)
OPS = {
    "SYSCALL": (
        0,
        "args...",
        "the system call; EINTR is retried (of close it is success), EAGAIN of openat2 up to 128 times",
        "it is the rule",
    ),
    "LOAD": (
        1,
        "data width",
        "register = 4 or 8 bytes of the data, unsigned",
        "calls answer through memory (clone3's pidfd)",
    ),
    "STORE": (
        2,
        "data width value",
        "4 or 8 bytes of the data = value",
        "results go into structures (clone_args.cgroup)",
    ),
    "GOTO": (3, "", "go on at target", "the plan branches where processes part"),
    "BRANCH": (
        4,
        "value comparison number",
        "go on at target if value EQ, NE, LT number (signed)",
        "the plan branches where processes part",
    ),
    "SEND": (
        5,
        "kind value fd",
        "send a record, with the fd unless it is negative (then by a plain write)",
        "a control message holds lengths and pointers that the kernel rewrites",
    ),
    "RECV": (
        6,
        "kind room capacity",
        "wait for a record of the kind (another one is EPROTO); copy what follows it to the room "
        "in the data, and a zero byte if one more fits (more than capacity is EMSGSIZE; a room of 0 takes nothing); "
        "register = value; end of file or ABORT ends the process with status 1",
        "waiting and checking is a loop",
    ),
    "WRITE": (
        7,
        "fd data length",
        "write all in one call; a short write is EIO",
        "a system call may write less than asked",
    ),
    "WALK": (
        8,
        "root path flags mode",
        "register = O_PATH fd of the path below root, resolved in root without magic "
        "links; makes what is missing as WALK says (mode less the umask), and where a link leads nowhere what it names "
        "below root; an existing last component of the wrong type is ENOTDIR or EISDIR",
        "making a path without leaving the root takes a loop over components",
    ),
    "CHECK": (
        9,
        "fd type rdev fsmagic inode",
        "the fd is of this file type (S_IFMT bits), device number (as makedev() "
        "packs it), file-system magic, inode; 0 is any; else ENOTSUP",
        "stat answers through memory that must be compared",
    ),
    "CHECKCWD": (
        10,
        "",
        "getcwd works and is absolute, else ENOENT",
        "the answer must be looked at",
    ),
    "SIGNALS": (11, "", "every disposition default", "62 calls in one"),
    "FIND": (
        12,
        "list count",
        "register = the first path of the list (relocated u64s in the data) that is a regular file "
        "and may be executed by the effective ids; else EACCES if one was there, else ENOENT; where a filter denies "
        "the question the path is taken",
        "remembering the better error is a loop",
    ),
    "HOOK": (
        13,
        "path argv envp state length timeout_ms",
        "run a program in its own process group with the state on its "
        "stdin, wait, kill the group at the timeout (0: none; ETIMEDOUT); always FATAL, a status other than 0 too: FAILED carries "
        "errno 0 (or ETIMEDOUT, or execve's), the wait status as value, and the first 512 bytes of output follow it",
        "fork, exec, poll and kill with a clock",
    ),
    "GATE": (
        14,
        "fd signalfd",
        "wait for a datagram with one fd; answer + on it; register = the fd; failures are reported "
        "there from now on; a signal read from signalfd ends the process with 128 + signal, unless its default is to "
        "be ignored or to stop; SIGPIPE is best blocked here",
        "waits on two things at once",
    ),
    "CLOSE": (
        15,
        "lowest keep keep keep keep keep",
        "close every fd from lowest up but those named (negative: none)",
        "gaps depend on registers",
    ),
    "COPYTREE": (
        16,
        "source destination",
        "copy what is below one directory fd into another: directories, regular "
        "files, links, modes, owners; never leaves them; special files are skipped; more than 128 levels are ELOOP",
        "a walk",
    ),
    "PARK": (
        17,
        "",
        "wait, reaping children, until SIGTERM or SIGINT; register = the signal; all three are blocked from "
        "then on",
        "a loop with signals",
    ),
    "WAIT": (
        18,
        "pid",
        "wait for the child (__WALL); a status other than 0 is EIO",
        "the status must be looked at",
    ),
}

# name of an argument -> the kinds it may have; what is not named here is NUMBER or REGISTER
PLACES = {
    "data": (DATA,),
    "room": (NUMBER, DATA),
    "path": (DATA,),
    "list": (DATA,),
    "argv": (DATA,),
    "envp": (DATA,),
    "state": (DATA,),
    "kind": (NUMBER,),
    "width": (NUMBER,),
    "comparison": (NUMBER,),
    "capacity": (NUMBER,),
    "flags": (NUMBER,),
    "mode": (NUMBER,),
    "count": (NUMBER,),
    "type": (NUMBER,),
    "fsmagic": (NUMBER,),
}

# operation -> the system calls skerry-init makes for it. It makes no others; a filter loaded before an operation must
# let these pass. A failure needs write and exit_group besides.
CALLS = {
    "SYSCALL": (),
    "LOAD": (),
    "STORE": (),
    "GOTO": (),
    "BRANCH": (),
    "SEND": ("write", "sendmsg"),
    "RECV": ("read",),
    "WRITE": ("write",),
    "WALK": ("openat2", "mkdirat", "openat", "readlinkat", "statx", "close"),
    "CHECK": ("statx", "fstatfs"),
    "CHECKCWD": ("getcwd",),
    "SIGNALS": ("rt_sigaction",),
    "FIND": ("faccessat2", "faccessat", "statx"),
    "HOOK": (
        "pipe2",
        "clone",
        "setpgid",
        "prctl",
        "rt_sigprocmask",
        "rt_sigtimedwait",
        "fcntl",
        "dup3",
        "close",
        "close_range",
        "execve",
        "ppoll",
        "read",
        "write",
        "clock_gettime",
        "kill",
        "wait4",
    ),
    "GATE": ("ppoll", "recvmsg", "read", "write", "close", "rt_sigtimedwait"),
    "CLOSE": ("close_range",),
    "COPYTREE": (
        "getdents64",
        "lseek",
        "statx",
        "mkdirat",
        "openat",
        "sendfile",
        "fchown",
        "fchmod",
        "readlinkat",
        "symlinkat",
        "fchownat",
        "close",
    ),
    "PARK": ("rt_sigprocmask", "rt_sigtimedwait", "wait4"),
    "WAIT": ("wait4",),
}
CALLS_OF_START = ("statx", "mmap", "fcntl")
CALLS_OF_END = ("write", "exit_group")

# Why a plan is refused: the low half of value in a FAILED record whose operation is NO_OPERATION (errno EINVAL); the high
# half is the index of the operation or relocation.
REFUSALS = {
    "SEALS": 1,  # the plan is not sealed against writing and shrinking
    "LAYOUT": 2,  # sizes and offsets of the header do not fit the file or the limits, a reserved field is set
    "END": 3,  # the data does not end with a zero byte
    "CODE": 4,  # no such operation, a system call number where none belongs, a reserved field is set
    "ARGUMENTS": 5,  # too few, too many, of the wrong kind, or rubbish in unused ones
    "RANGE": 6,  # an offset, length, width, comparison, flag or kind that is out of bounds
    "REGISTER": 7,  # a register the header does not count
    "FAIL": 8,  # unknown fail, errnos that cannot be, or given where they have no meaning
    "TARGET": 9,  # a jump that does not lead forward, or a target where none belongs
    "RELOCATION": 10,  # a place or the offset it holds is out of bounds
}

CODES = {name: row[0] for name, row in OPS.items()}

EQ, NE, LT = 0, 1, 2
COMPARISONS = {"EQ": EQ, "NE": NE, "LT": LT}

# WALK flags: one of DIRECTORY, FILE, PARENT and EXISTING at least, and not both of the first two. Missing directories
# on the way are made, mode 0755, unless EXISTING.
WALK_DIRECTORY, WALK_FILE, WALK_PARENT, WALK_EXISTING, WALK_NOFOLLOW = 1, 2, 4, 8, 16
WALK = {
    "DIRECTORY": WALK_DIRECTORY,  # the last component is a directory; make it if missing
    "FILE": WALK_FILE,  # the last component is anything but a directory; make an empty regular file if missing
    "PARENT": WALK_PARENT,  # alone: a directory as well, made with mode 0755; with one of those: nothing more
    "EXISTING": WALK_EXISTING,  # make nothing; ENOENT if missing; with neither DIRECTORY nor FILE any type will do
    "NOFOLLOW": WALK_NOFOLLOW,  # a symbolic link as last component is ELOOP
}

# Records of the conversation. From skerry-init:
MAPS, PID, HOOKS, PASSWD, FD, READY, FAILED = 1, 2, 3, 4, 5, 6, 7
# To skerry-init:
GO, REPLY, ABORT = 16, 17, 18
RECORDS = {
    "MAPS": MAPS,  # a new user (or time) namespace waits for its maps (or offsets)
    "PID": PID,  # value = pid of the process just made, its pidfd rides along
    "HOOKS": HOOKS,  # mounts and /dev are done: host hooks and limits are due
    "PASSWD": PASSWD,  # the image's passwd file rides along; the answer is REPLY with HOME
    "FD": FD,  # an fd the plan promised (console master, seccomp listener); value says which
    "READY": READY,  # everything but execve is done
    "FAILED": FAILED,  # operation, errno; see HOOK for value
    "GO": GO,
    "REPLY": REPLY,
    "ABORT": ABORT,
}
