/* COPYTREE: copy what is below one directory into another, by fds alone.
 *
 * The source is the image's, and another container may be at work in it: every name is one component, opened
 * without following a link, and type, mode and owner are those of the fd that was opened. The stack of open
 * directories is an array, so depth is bounded; one buffer of entries serves all levels, and a directory is read
 * again from the entry after the one that was entered. */
#include "init.h"

#define LEVELS 128
#define ENTRIES_BYTES 32768
#define CHUNK_BYTES (1 << 30)
#define SEEK_TO 0

struct entry { /* linux/dirent.h of the kernel; no header of its interface has it */
	uint64_t inode;
	int64_t next; /* where to seek for the entry after this one */
	uint16_t bytes;
	uint8_t type;
	char name[];
};

struct level {
	int32_t source, target;
};

struct copy {
	struct level levels[LEVELS];
	unsigned depth;
	char link[PATH_BYTES];
	uint8_t entries[ENTRIES_BYTES] __attribute__((aligned(8)));
};

_Static_assert(sizeof(struct copy) <= SCRATCH_BYTES, "scratch");

#define OPEN_QUIETLY (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* The owner first: chown takes away the set-id bits. */
static int64_t dress(int64_t fd, const struct statx *status)
{
	int64_t error = call3(NR_fchown, fd, status->stx_uid, status->stx_gid);

	return error < 0 ? error : call2(NR_fchmod, fd, status->stx_mode & 07777);
}

static int64_t copy_content(int64_t source, int64_t target)
{
	int64_t sent;

	do
		sent = RETRY(call4(NR_sendfile, target, source, 0, CHUNK_BYTES));
	while (sent > 0);
	return sent;
}

static int64_t copy_file(const struct level *level, const char *name)
{
	struct statx status;
	int64_t source, target, error;

	source = RETRY(call4(NR_openat, level->source, name, OPEN_QUIETLY, 0));
	if (source < 0)
		return source;
	error = file_status(source, "", AT_EMPTY_PATH, &status);
	if (error == 0 && S_ISREG(status.stx_mode)) {
		target = RETRY(call4(NR_openat, level->target, name,
				     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
		error = target;
		if (target >= 0) {
			error = copy_content(source, target);
			if (error >= 0)
				error = dress(target, &status);
			close_fd(target);
		}
	}
	close_fd(source);
	return error;
}

static int64_t copy_link(struct copy *copy, const struct level *level, const char *name)
{
	struct statx status;
	int64_t length, error;

	length = call4(NR_readlinkat, level->source, name, copy->link, PATH_BYTES);
	if (length == PATH_BYTES)
		return -ENAMETOOLONG;
	if (length < 0)
		return length;
	copy->link[length] = 0;
	error = file_status(level->source, name, AT_SYMLINK_NOFOLLOW, &status);
	if (error >= 0)
		error = call3(NR_symlinkat, copy->link, level->target, name);
	if (error >= 0)
		error = call5(NR_fchownat, level->target, name, status.stx_uid, status.stx_gid,
			      AT_SYMLINK_NOFOLLOW);
	return error;
}

/* Open both sides of a directory, the target of which may have been there before. */
static int64_t enter(struct copy *copy, int64_t source, int64_t target, const char *name)
{
	struct level *level = &copy->levels[copy->depth];
	int64_t fd;

	if (copy->depth == LEVELS)
		return -ELOOP;
	fd = RETRY(call4(NR_openat, source, name, OPEN_QUIETLY | O_DIRECTORY, 0));
	if (fd < 0)
		return fd;
	level->source = (int32_t)fd;
	fd = RETRY(call4(NR_openat, target, name, OPEN_QUIETLY | O_DIRECTORY, 0));
	if (fd < 0) {
		close_fd(level->source);
		return fd;
	}
	level->target = (int32_t)fd;
	copy->depth++;
	return 0;
}

/* Go up; the mode last, since it may forbid what was done inside. */
static int64_t leave_level(struct copy *copy)
{
	struct level *level = &copy->levels[--copy->depth];
	struct statx status;
	int64_t error = 0;

	if (copy->depth > 0) {
		error = file_status(level->source, "", AT_EMPTY_PATH, &status);
		if (error >= 0)
			error = dress(level->target, &status);
	}
	close_fd(level->source);
	close_fd(level->target);
	return error;
}

/* 1 if a directory was entered. */
static int64_t copy_entry(struct copy *copy, const struct entry *entry)
{
	const struct level *level = &copy->levels[copy->depth - 1];
	struct statx status;
	int64_t error = file_status(level->source, entry->name, AT_SYMLINK_NOFOLLOW, &status);

	if (error < 0)
		return error;
	if (S_ISREG(status.stx_mode))
		return copy_file(level, entry->name);
	if (S_ISLNK(status.stx_mode))
		return copy_link(copy, level, entry->name);
	if (!S_ISDIR(status.stx_mode))
		return 0;
	error = call3(NR_lseek, level->source, entry->next, SEEK_TO);
	if (error >= 0)
		error = call3(NR_mkdirat, level->target, entry->name, 0700);
	if (error < 0 && error != -EEXIST)
		return error;
	error = enter(copy, level->source, level->target, entry->name);
	return error < 0 ? error : 1;
}

static int is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/* Read a bufferful of the innermost directory and copy it, up to a directory in it. 0 at its end. */
static int64_t copy_some(struct copy *copy)
{
	int64_t got = call3(NR_getdents64, copy->levels[copy->depth - 1].source, copy->entries,
			    ENTRIES_BYTES);

	for (int64_t at = 0; at < got;) {
		const struct entry *entry = (const void *)(copy->entries + at);
		int64_t result;

		at += entry->bytes;
		if (is_dots(entry->name))
			continue;
		result = copy_entry(copy, entry);
		if (result != 0)
			return result;
	}
	return got;
}

/* COPYTREE source destination */
int64_t op_copytree(const uint64_t *args)
{
	struct copy *copy = (void *)scratch;
	int64_t error;

	copy->depth = 0;
	error = enter(copy, (int64_t)args[0], (int64_t)args[1], ".");
	while (error >= 0 && copy->depth > 0) {
		error = copy_some(copy);
		if (error == 0)
			error = leave_level(copy);
	}
	while (copy->depth > 0) {
		copy->depth--;
		close_fd(copy->levels[copy->depth].source);
		close_fd(copy->levels[copy->depth].target);
	}
	return error < 0 ? error : 0;
}
