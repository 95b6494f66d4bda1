/* WALK: open a path below a root, and make what is missing of it, without ever leaving the root.
 *
 * Every look-up starts at the root fd and is done by openat2 with RESOLVE_IN_ROOT, so the kernel answers for
 * links, for .. and for whoever moves things meanwhile; every mkdirat and creating openat takes one component and
 * a parent fd found that way, and neither follows a link. A link that leads nowhere is read, and its text takes
 * its place in the path: what it names is then looked up and made below the root like any other path, which is
 * where the container itself would look for it (images link /etc/resolv.conf and /var/run so). */
#include <linux/openat2.h>

#include "init.h"

#define TRIES 128
#define LINKS 40 /* MAXSYMLINKS of the kernel; here also looks that another process spoiled */

struct walk {
	int64_t root;
	uint64_t flags, mode;
	char path[PATH_BYTES], spare[PATH_BYTES];
};

_Static_assert(sizeof(struct walk) <= SCRATCH_BYTES, "scratch");

/* Open what path names; O_NOFOLLOW or 0. */
static int64_t open_in_root(const struct walk *walk, uint64_t nofollow)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | nofollow,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	const char *path = walk->path[0] ? walk->path : ".";
	int64_t fd;

	for (unsigned tries = TRIES; tries > 0; tries--) {
		fd = RETRY(call4(NR_openat2, walk->root, path, &how, sizeof(how)));
		if (fd != -EAGAIN)
			break;
	}
	return fd;
}

static int64_t make_component(const struct walk *walk, int64_t parent, const char *name, int last)
{
	int64_t fd;

	if (last && (walk->flags & WALK_DIRECTORY))
		return call3(NR_mkdirat, parent, name, walk->mode);
	if (!last || !(walk->flags & WALK_FILE))
		return call3(NR_mkdirat, parent, name, 0755);
	fd = RETRY(call4(NR_openat, parent, name,
			 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
			 walk->mode));
	if (fd < 0)
		return fd;
	close_fd(fd);
	return 0;
}

/* Put the text of the link at `start` of the path in its place. The zero byte at `end` stands for `after`. */
static int64_t insert_link(struct walk *walk, int64_t parent, size_t start, size_t end, char after)
{
	int64_t got = call4(NR_readlinkat, parent, walk->path + start, walk->spare, PATH_BYTES);
	size_t length = (size_t)got, rest;

	walk->path[end] = after;
	if (got == -EINVAL || got == -ENOENT)
		return 0; /* no link any more: look again */
	if (got < 0)
		return got;
	if (walk->spare[0] == '/')
		start = 0;
	rest = length_of(walk->path + end) + 1;
	if (start + length + rest > PATH_BYTES)
		return -ENAMETOOLONG;
	/* by way of the spare room, as old and new place of the rest may overlap */
	memcpy(walk->spare + length, walk->path + end, rest);
	memcpy(walk->path + start, walk->spare, length + rest);
	return 0;
}

static int is_last(const char *rest)
{
	while (*rest == '/')
		rest++;
	return *rest == 0;
}

/* Open the path up to `end`, and make that component below `parent` if it is missing. -EEXIST: a link that led
 * nowhere is in the path now, or another process was at work; look again from the root. */
static int64_t step(struct walk *walk, int64_t parent, size_t start, size_t end)
{
	char after = walk->path[end];
	int last = is_last(walk->path + end);
	uint64_t nofollow = last && (walk->flags & WALK_NOFOLLOW) ? O_NOFOLLOW : 0;
	int64_t error, fd;

	walk->path[end] = 0;
	fd = open_in_root(walk, nofollow);
	if (fd == -ENOENT) {
		error = make_component(walk, parent, walk->path + start, last);
		if (error == 0)
			fd = open_in_root(walk, nofollow);
		else if (error == -EEXIST) {
			error = insert_link(walk, parent, start, end, after);
			return error < 0 ? error : -EEXIST;
		} else
			fd = error;
	}
	walk->path[end] = after;
	return fd;
}

/* One pass over the components. */
static int64_t step_all(struct walk *walk)
{
	int64_t parent = walk->root;
	size_t start = 0, end = 0;

	for (;;) {
		int64_t next;

		for (start = end; walk->path[start] == '/';)
			start++;
		for (end = start; walk->path[end] && walk->path[end] != '/';)
			end++;
		if (start == end)
			return parent;
		next = step(walk, parent, start, end);
		if (parent != walk->root)
			close_fd(parent);
		if (next < 0)
			return next;
		parent = next;
	}
}

/* The last component must be of the type the flags name. */
static int64_t check_type(const struct walk *walk, int64_t fd)
{
	struct statx status;
	int64_t error = file_status(fd, "", AT_EMPTY_PATH, &status);

	if (error < 0)
		return error;
	if ((walk->flags & WALK_NOFOLLOW) && S_ISLNK(status.stx_mode))
		return -ELOOP;
	if (walk->flags & WALK_FILE)
		return S_ISDIR(status.stx_mode) ? -EISDIR : 0;
	if ((walk->flags & (WALK_DIRECTORY | WALK_PARENT)) && !S_ISDIR(status.stx_mode))
		return -ENOTDIR;
	return 0;
}

/* WALK root path flags mode */
int64_t op_walk(const uint64_t *args, uint64_t *value)
{
	struct walk *walk = (void *)scratch;
	size_t length = length_of((const char *)args[1]);
	unsigned again = LINKS;
	int64_t fd, error;

	if (length >= PATH_BYTES)
		return -ENAMETOOLONG;
	walk->root = (int64_t)args[0];
	walk->flags = args[2];
	walk->mode = args[3];
	memcpy(walk->path, (const void *)args[1], length + 1);
	fd = open_in_root(walk, walk->flags & WALK_NOFOLLOW ? O_NOFOLLOW : 0);
	if (fd == -ENOENT && !(walk->flags & WALK_EXISTING)) {
		do
			fd = step_all(walk);
		while ((fd == -EEXIST || fd == -ENOENT) && --again > 0);
		if (fd == -EEXIST)
			fd = -ELOOP;
	}
	if (fd < 0)
		return fd;
	error = check_type(walk, fd);
	if (error < 0) {
		close_fd(fd);
		return error;
	}
	*value = (uint64_t)fd;
	return 0;
}
