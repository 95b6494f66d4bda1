/* Printed by tools/gen_ops.py from plan/ops.py and linux/abi.py. Not edited by hand: run `make -C init ops`. */
#ifndef SKERRY_OPS_H
#define SKERRY_OPS_H

#define MAGIC 0x59524b53
#define VERSION 0x1
#define PLAN_LIMIT_BYTES 0x1000000
#define REGISTERS 0x800
#define ARGUMENTS 0x6
#define ERRNOS 0x4
#define NO_REGISTER 0xffff
#define DATA_ALIGN_BYTES 0x8
#define RECORD_LIMIT_BYTES 0x10000
#define HOOK_OUTPUT_BYTES 0x200
#define EXIT_FAILED 0x1
#define EXIT_REFUSED 0x79
#define NO_OPERATION 0xffffffff

#define HEADER_BYTES 0x28
#define OP_BYTES 0x50
#define RECORD_BYTES 0x18

#define FAIL_FATAL 0x0
#define FAIL_IGNORE 0x1
#define FAIL_JUMP 0x2

#define KIND_NUMBER 0x0
#define KIND_DATA 0x1
#define KIND_REGISTER 0x2

#define COMPARE_EQ 0x0
#define COMPARE_NE 0x1
#define COMPARE_LT 0x2

#define WALK_DIRECTORY 0x1
#define WALK_FILE 0x2
#define WALK_PARENT 0x4
#define WALK_EXISTING 0x8
#define WALK_NOFOLLOW 0x10

#define RECORD_MAPS 0x1
#define RECORD_PID 0x2
#define RECORD_HOOKS 0x3
#define RECORD_PASSWD 0x4
#define RECORD_FD 0x5
#define RECORD_READY 0x6
#define RECORD_FAILED 0x7
#define RECORD_GO 0x10
#define RECORD_REPLY 0x11
#define RECORD_ABORT 0x12

#define REFUSED_SEALS 0x1
#define REFUSED_LAYOUT 0x2
#define REFUSED_END 0x3
#define REFUSED_CODE 0x4
#define REFUSED_ARGUMENTS 0x5
#define REFUSED_RANGE 0x6
#define REFUSED_REGISTER 0x7
#define REFUSED_FAIL 0x8
#define REFUSED_TARGET 0x9
#define REFUSED_RELOCATION 0xa

#define OP_SYSCALL 0x0
#define OP_LOAD 0x1
#define OP_STORE 0x2
#define OP_GOTO 0x3
#define OP_BRANCH 0x4
#define OP_SEND 0x5
#define OP_RECV 0x6
#define OP_WRITE 0x7
#define OP_WALK 0x8
#define OP_CHECK 0x9
#define OP_CHECKCWD 0xa
#define OP_SIGNALS 0xb
#define OP_FIND 0xc
#define OP_HOOK 0xd
#define OP_GATE 0xe
#define OP_CLOSE 0xf
#define OP_COPYTREE 0x10
#define OP_PARK 0x11
#define OP_WAIT 0x12

/* least and most arguments, kinds allowed at each place (bit 1 << kind) */
#define OP_SIGNATURES \
	[OP_SYSCALL] = {0, 6, {7, 7, 7, 7, 7, 7}}, \
	[OP_LOAD] = {2, 2, {2, 1, 0, 0, 0, 0}}, \
	[OP_STORE] = {3, 3, {2, 1, 5, 0, 0, 0}}, \
	[OP_GOTO] = {0, 0, {0, 0, 0, 0, 0, 0}}, \
	[OP_BRANCH] = {3, 3, {5, 1, 5, 0, 0, 0}}, \
	[OP_SEND] = {3, 3, {1, 5, 5, 0, 0, 0}}, \
	[OP_RECV] = {3, 3, {1, 3, 1, 0, 0, 0}}, \
	[OP_WRITE] = {3, 3, {5, 2, 5, 0, 0, 0}}, \
	[OP_WALK] = {4, 4, {5, 2, 1, 1, 0, 0}}, \
	[OP_CHECK] = {5, 5, {5, 1, 5, 1, 5, 0}}, \
	[OP_CHECKCWD] = {0, 0, {0, 0, 0, 0, 0, 0}}, \
	[OP_SIGNALS] = {0, 0, {0, 0, 0, 0, 0, 0}}, \
	[OP_FIND] = {2, 2, {2, 1, 0, 0, 0, 0}}, \
	[OP_HOOK] = {6, 6, {2, 2, 2, 2, 5, 5}}, \
	[OP_GATE] = {2, 2, {5, 5, 0, 0, 0, 0}}, \
	[OP_CLOSE] = {1, 6, {5, 5, 5, 5, 5, 5}}, \
	[OP_COPYTREE] = {2, 2, {5, 5, 0, 0, 0, 0}}, \
	[OP_PARK] = {0, 0, {0, 0, 0, 0, 0, 0}}, \
	[OP_WAIT] = {1, 1, {5, 0, 0, 0, 0, 0}},

#if defined(__x86_64__)
#define NR_clock_gettime 228
#define NR_clone 56
#define NR_close 3
#define NR_close_range 436
#define NR_dup3 292
#define NR_execve 59
#define NR_exit_group 231
#define NR_faccessat 269
#define NR_faccessat2 439
#define NR_fchmod 91
#define NR_fchown 93
#define NR_fchownat 260
#define NR_fcntl 72
#define NR_fstatfs 138
#define NR_getcwd 79
#define NR_getdents64 217
#define NR_kill 62
#define NR_lseek 8
#define NR_mkdirat 258
#define NR_mmap 9
#define NR_openat 257
#define NR_openat2 437
#define NR_pipe2 293
#define NR_ppoll 271
#define NR_prctl 157
#define NR_read 0
#define NR_readlinkat 267
#define NR_recvmsg 47
#define NR_rt_sigaction 13
#define NR_rt_sigprocmask 14
#define NR_rt_sigtimedwait 128
#define NR_sendfile 40
#define NR_sendmsg 46
#define NR_setpgid 109
#define NR_statx 332
#define NR_symlinkat 266
#define NR_wait4 61
#define NR_write 1
#endif

#if defined(__aarch64__)
#define NR_clock_gettime 113
#define NR_clone 220
#define NR_close 57
#define NR_close_range 436
#define NR_dup3 24
#define NR_execve 221
#define NR_exit_group 94
#define NR_faccessat 48
#define NR_faccessat2 439
#define NR_fchmod 52
#define NR_fchown 55
#define NR_fchownat 54
#define NR_fcntl 25
#define NR_fstatfs 44
#define NR_getcwd 17
#define NR_getdents64 61
#define NR_kill 129
#define NR_lseek 62
#define NR_mkdirat 34
#define NR_mmap 222
#define NR_openat 56
#define NR_openat2 437
#define NR_pipe2 59
#define NR_ppoll 73
#define NR_prctl 167
#define NR_read 63
#define NR_readlinkat 78
#define NR_recvmsg 212
#define NR_rt_sigaction 134
#define NR_rt_sigprocmask 135
#define NR_rt_sigtimedwait 137
#define NR_sendfile 71
#define NR_sendmsg 211
#define NR_setpgid 154
#define NR_statx 291
#define NR_symlinkat 36
#define NR_wait4 260
#define NR_write 64
#endif

#endif
