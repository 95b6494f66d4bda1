/* The small operations: one loop or one comparison around system calls. */
#include <asm/statfs.h>
#include <linux/wait.h>

#include "init.h"

#define OPENAT2_TRIES 128 /* a rename anywhere makes openat2 say EAGAIN when a path holds .. */

/* SYSCALL number(args...) */
int64_t op_syscall(const struct op *op, const uint64_t *args, uint64_t *value)
{
	unsigned tries = OPENAT2_TRIES;
	int64_t result;

	do
		result = raw_call(op->number, args[0], args[1], args[2], args[3], args[4], args[5]);
	while ((result == -EINTR && op->number != NR_close) ||
	       (result == -EAGAIN && op->number == NR_openat2 && --tries > 0));
	/* the fd is gone all the same; a second close would be of another's */
	if (result == -EINTR)
		result = 0;
	*value = (uint64_t)result;
	return is_error(result) ? result : 0;
}

/* LOAD data width */
int64_t op_load(const uint64_t *args, uint64_t *value)
{
	*value = 0;
	memcpy(value, (const void *)args[0], args[1]);
	return 0;
}

/* STORE data width value */
int64_t op_store(const uint64_t *args)
{
	memcpy((void *)args[0], &args[2], args[1]);
	return 0;
}

/* BRANCH value comparison number: whether to go to target */
int op_branch(const uint64_t *args)
{
	switch (args[1]) {
	case COMPARE_EQ:
		return args[0] == args[2];
	case COMPARE_NE:
		return args[0] != args[2];
	default:
		return (int64_t)args[0] < (int64_t)args[2];
	}
}

/* WRITE fd data length: kernel files take a value in one call or not at all */
int64_t op_write(const struct plan *plan, const uint64_t *args)
{
	int64_t written;

	if (!in_data(plan, args[1], args[2]))
		return -EFAULT;
	written = RETRY(call3(NR_write, args[0], args[1], args[2]));
	if (written < 0)
		return written;
	return (uint64_t)written == args[2] ? 0 : -EIO;
}

/* A device number as makedev() packs it. */
static uint64_t device_number(const struct statx *status)
{
	uint64_t major = status->stx_rdev_major, minor = status->stx_rdev_minor;

	return (major & ~0xfffULL) << 32 | (minor & ~0xffULL) << 12 | (major & 0xfff) << 8 |
	       (minor & 0xff);
}

/* CHECK fd type rdev fsmagic inode */
int64_t op_check(const uint64_t *args)
{
	struct statx status;
	struct statfs filesystem;
	int64_t error = file_status((int64_t)args[0], "", AT_EMPTY_PATH, &status);

	if (error < 0)
		return error;
	if (args[1] && (status.stx_mode & S_IFMT) != args[1])
		return -EOPNOTSUPP;
	if (args[2] && device_number(&status) != args[2])
		return -EOPNOTSUPP;
	if (args[4] && status.stx_ino != args[4])
		return -EOPNOTSUPP;
	if (!args[3])
		return 0;
	error = RETRY(call2(NR_fstatfs, args[0], &filesystem));
	if (error < 0)
		return error;
	return (uint64_t)filesystem.f_type == args[3] ? 0 : -EOPNOTSUPP;
}

/* CHECKCWD: the kernel says "(unreachable)..." of a directory outside the root */
int64_t op_checkcwd(void)
{
	int64_t length = call2(NR_getcwd, scratch, PATH_BYTES);

	if (length < 0)
		return length;
	return scratch[0] == '/' ? 0 : -ENOENT;
}

static int is_denied(int64_t error)
{
	return error == -ENOSYS || error == -EPERM;
}

/* Whether this may be executed: 0, an errno, or 0 where a filter denies the question. */
static int64_t may_execute(const char *path)
{
	struct statx status;
	int64_t error = call4(NR_faccessat2, AT_FDCWD, path, 1, AT_EACCESS);

	if (is_denied(error))
		error = call3(NR_faccessat, AT_FDCWD, path, 1);
	if (is_denied(error))
		return 0;
	if (error < 0)
		return error;
	error = file_status(AT_FDCWD, path, 0, &status);
	if (is_denied(error))
		return 0;
	if (error == 0 && !S_ISREG(status.stx_mode))
		return -EACCES;
	return error;
}

/* FIND list count */
int64_t op_find(const struct plan *plan, const uint64_t *args, uint64_t *value)
{
	const uint64_t *list = (const void *)args[0];
	int64_t worst = -ENOENT;

	for (uint64_t i = 0; i < args[1]; i++) {
		int64_t error;

		if (!in_data(plan, list[i], 1))
			return -EFAULT;
		error = may_execute((const char *)list[i]);
		if (error == 0) {
			*value = list[i];
			return 0;
		}
		if (error == -EACCES)
			worst = error;
	}
	return worst;
}

/* CLOSE lowest keep...: the gaps between what is kept */
int64_t op_close(const uint64_t *args, unsigned count)
{
	int64_t lowest = (int64_t)args[0];

	for (;;) {
		int64_t next = INT32_MAX, error = 0;

		for (unsigned i = 1; i < count; i++) {
			int64_t kept = (int64_t)args[i];

			if (kept >= lowest && kept < next)
				next = kept;
		}
		if (next > lowest)
			error = call3(NR_close_range, lowest, next - 1, 0);
		if (error < 0 || next == INT32_MAX)
			return error;
		lowest = next + 1;
	}
}

/* WAIT pid */
int64_t op_wait(const uint64_t *args)
{
	int status = 0;
	int64_t error = -ECHILD;

	/* 0 and negative numbers would mean groups of children */
	if ((int64_t)args[0] > 0)
		error = RETRY(call4(NR_wait4, args[0], &status, __WALL, 0));

	if (error < 0)
		return error;
	return status == 0 ? 0 : -EIO;
}
