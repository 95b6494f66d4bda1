"""Numbers of the Linux system call interface, by header. No behaviour.

Runs in: create, exec (hot).   Imports: nothing.
Source:  asm/unistd_64.h (x86_64), asm-generic/unistd.h (aarch64); other headers are named at their block.
"""

# name -> (x86_64, aarch64)
SYSCALLS = {
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "rt_sigprocmask": (14, 135),
    "ioctl": (16, 29),
    "dup": (32, 23),
    "socket": (41, 198),
    "setsockopt": (54, 208),
    "execve": (59, 221),
    "fcntl": (72, 25),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "fchmod": (91, 52),
    "fchown": (93, 55),
    "umask": (95, 166),
    "setgroups": (116, 159),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "capset": (126, 91),
    "personality": (135, 92),
    "sched_setparam": (142, 118),
    "sched_setaffinity": (203, 122),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "chroot": (161, 51),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "mount": (165, 40),
    "umount2": (166, 39),
    "exit_group": (231, 94),
    "set_mempolicy": (238, 237),
    "keyctl": (250, 219),
    "ioprio_set": (251, 30),
    "openat": (257, 56),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "fchownat": (260, 54),
    "unlinkat": (263, 35),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "unshare": (272, 97),
    "signalfd4": (289, 74),
    "dup3": (292, 24),
    "prlimit64": (302, 261),
    "setns": (308, 268),
    "sched_setattr": (314, 274),
    "seccomp": (317, 277),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "execveat": (322, 281),
    "statx": (332, 291),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "mount_setattr": (442, 442),
    # what the special operations of skerry-init are made of
    "read": (0, 63),
    "mmap": (9, 222),
    "rt_sigaction": (13, 134),
    "rt_sigtimedwait": (128, 137),
    "sendfile": (40, 71),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "clone": (56, 220),
    "wait4": (61, 260),
    "kill": (62, 129),
    "fstatfs": (138, 44),
    "getdents64": (217, 61),
    "clock_gettime": (228, 113),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "ppoll": (271, 73),
    "pipe2": (293, 59),
    "faccessat2": (439, 439),
}

MACHINES = {"x86_64": 0, "aarch64": 1}

# asm-generic/fcntl.h (the directory flags differ on aarch64; both are in `OPEN_FLAGS`)
O_RDONLY, O_WRONLY, O_RDWR = 0, 1, 2
O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC, O_APPEND, O_NONBLOCK = (
    0o100,
    0o200,
    0o400,
    0o1000,
    0o2000,
    0o4000,
)
O_CLOEXEC, O_PATH = 0o2000000, 0o10000000
# machine -> (O_DIRECTORY, O_NOFOLLOW)
OPEN_FLAGS = ((0o200000, 0o400000), (0o40000, 0o100000))
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_EMPTY_PATH, AT_RECURSIVE = 0x100, 0x200, 0x1000, 0x8000
F_SETFD, F_SETFL, FD_CLOEXEC = 2, 4, 1

# linux/memfd.h
MFD_CLOEXEC, MFD_NOEXEC_SEAL = 0x1, 0x8

# linux/openat2.h
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x01, 0x02, 0x04
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10

# linux/mount.h
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD = 0, 1, 5
FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE = 6, 7
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR_ATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME = (
    0x70,
    0x00,
    0x10,
    0x20,
)
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000
MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x4000, 1 << 17, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

# linux/sched.h
CLONE_FILES, CLONE_PIDFD, CLONE_PARENT, CLONE_INTO_CGROUP = 0x400, 0x1000, 0x8000, 0x200000000
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP = 0x80, 0x20000, 0x2000000
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x4000000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

# asm-generic/resource.h
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

# linux/sched.h; SCHED_ISO (4) is a number without a scheduler
SCHED_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

# linux/ioprio.h
IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IOPRIO_WHO_PROCESS, IOPRIO_CLASS_SHIFT = 1, 13

# linux/mempolicy.h
MPOL_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MPOL_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}

# linux/personality.h
PER_LINUX, PER_LINUX32 = 0, 8

# linux/prctl.h, linux/securebits.h, linux/seccomp.h, linux/keyctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_CAPBSET_DROP = 1, 4, 8, 15, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522
SECCOMP_SET_MODE_FILTER = 1
KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SETPERM, KEYCTL_DESCRIBE = 1, 5, 6

# asm-generic/ioctls.h, linux/sockios.h
TIOCSCTTY, TIOCSWINSZ, TIOCSPTLCK, TIOCGPTPEER = 0x540E, 0x5414, 0x40045431, 0x5441
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914

# linux/magic.h
PROC_SUPER_MAGIC, SYSFS_MAGIC, DEVPTS_SUPER_MAGIC, TMPFS_MAGIC = (
    0x9FA0,
    0x62656572,
    0x1CD1,
    0x01021994,
)

# linux/stat.h
S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK = 0o10000, 0o20000, 0o40000, 0o60000
S_IFREG, S_IFLNK, S_IFSOCK = 0o100000, 0o120000, 0o140000
