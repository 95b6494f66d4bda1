/*
 * The launcher: what is installed as `skerry`.
 *
 * It starts the interpreter with -I -S -B (isolated, without site, writing no bytecode) and -X utf8 on launch.py of
 * its own installation, so that neither the caller's environment nor the current directory can put code into skerry,
 * and it opens /dev/null on whichever of the fds 0-2 is missing, before anything else is opened.
 *
 * Why a program and not a script: pip rewrites the first line of scripts and drops their options, and the kernel
 * would hand the script itself to a caller that lacks fd 0. docs/decisions/0002-launcher.md tells the rest.
 *
 * Where the installation has a snapshot of a started interpreter (snapshot.c), that is executed in its place, with the
 * same arguments.
 *
 * Two lists are compiled in, each entry ended by a zero byte:
 *   ROOTS    directories that may hold the package, relative to the directory above the launcher's
 *   PYTHONS  interpreters; one without a slash is looked for beside the launcher
 * The launcher finds itself by /proc/self/exe, so a symbolic link to it works from anywhere.
 */

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <stdint.h>

#if defined(__x86_64__)
#include "../init/arch_x86_64.h"
#elif defined(__aarch64__)
#include "../init/arch_aarch64.h"
#else
#error "skerry is built for x86_64 and aarch64"
#endif

ENTRY_POINT;

enum { READABLE = 4, EXECUTABLE = 1, PATH_LIMIT = 4096 };

#define SCRIPT "/skerry/launch.py"
#define SNAPSHOT "skerry.snapshot" /* beside it */

static long length(const char *text)
{
	long n = 0;

	while (text[n])
		n++;
	return n;
}

static long call(uint64_t number, long a, long b, long c, long d)
{
	return (long)raw_call(number, (uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d, 0, 0);
}

static void say(const char *text)
{
	call(__NR_write, 2, (long)text, length(text), 0);
}

static __attribute__((noreturn)) void refuse(const char *what, const char *where,
					     const char *entries)
{
	say("skerry: cannot find ");
	say(what);
	for (; *entries; entries += length(entries) + 1) {
		say(" ");
		say(*entries == '/' ? "" : where);
		say(*entries == '/' ? "" : "/");
		say(entries);
	}
	say("\n");
	for (;;)
		call(__NR_exit_group, 1, 0, 0, 0);
}

/* path = directory [/ entry] tail; 0 if that is longer than a path may be */
static int join(char *path, const char *directory, const char *entry, const char *tail)
{
	const char *parts[] = {directory, *directory ? "/" : "", entry, tail};
	long used = 0;

	for (int i = 0; i < 4; i++)
		for (const char *c = parts[i]; *c; c++) {
			if (used == PATH_LIMIT - 1)
				return 0;
			path[used++] = *c;
		}
	path[used] = 0;
	return 1;
}

/* The first entry of the list that is there, as a path; entries with a leading slash stand for themselves. */
static void find(char *path, const char *what, const char *directory, const char *entries,
		 const char *tail, long mode)
{
	for (const char *entry = entries; *entry; entry += length(entry) + 1)
		if (join(path, *entry == '/' ? "" : directory, entry, tail) &&
		    call(__NR_faccessat, AT_FDCWD, (long)path, mode, 0) == 0)
			return;
	refuse(what, directory, entries);
}

static void open_missing(void)
{
	for (long fd = 0; fd < 3; fd++)
		if (call(__NR_fcntl, fd, F_GETFD, 0, 0) == -EBADF)
			call(__NR_openat, AT_FDCWD, (long)"/dev/null", O_RDWR,
			     0); /* the lowest free fd: this one */
}

/* Cut the last component off. */
static void parent(char *path)
{
	long end = length(path);

	while (end > 0 && path[end] != '/')
		end--;
	path[end] = 0;
}

static void locate(char *directory)
{
	long size = call(__NR_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)directory,
			 PATH_LIMIT - 1);

	if (size < 0)
		refuse("itself: is /proc mounted?", "", "");
	directory[size] = 0;
	parent(directory);
}

static int same(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/*
 * Move a child of ours into the cgroup it is in. It does nothing, but takes the kernel's lock for moving processes,
 * and the first to take that after a quiet moment waits some ten milliseconds for an RCU grace period: here beside the
 * start of the interpreter, otherwise when the container is moved. Only where controllers are mounted on their own
 * (cgroup v1); on v2 containers are born in their cgroup. Whatever fails changes nothing.
 */
static void take_the_lock_early(void)
{
	static const char mark[] = ":pids:", top[] = "/sys/fs/cgroup/pids",
			  file[] = "/cgroup.procs";
	static char table[PATH_LIMIT], path[2 * PATH_LIMIT];
	long fd = call(__NR_openat, AT_FDCWD, (long)"/proc/self/cgroup", O_CLOEXEC, 0);
	long size = call(__NR_read, fd, (long)table, PATH_LIMIT - 1, 0), used = 0;
	const char *c = table;

	if (size <= 0)
		return;
	for (long i = 0; *c; c++, i = 0) {
		while (mark[i] && c[i] == mark[i])
			i++;
		if (!mark[i])
			break;
	}
	if (!*c)
		return;
	for (const char *t = top; *t; t++)
		path[used++] = *t;
	for (c += sizeof(mark) - 1; *c && *c != '\n'; c++)
		path[used++] = *c;
	for (const char *t = file; *t; t++)
		path[used++] = *t;
	fd = call(__NR_openat, AT_FDCWD, (long)path, O_WRONLY | O_CLOEXEC, 0);
	if (fd >= 0)
		call(__NR_write, fd, (long)"0", 1, 0);
}

static void prepare(long argc, const char **argv)
{
	static const char *const verbs[] = {"create", "run", "exec"};

	for (long i = 1; i < argc; i++)
		for (int v = 0; v < 3; v++)
			if (same(argv[i], verbs[v])) {
				/* no SIGCHLD: whoever waits for children of the interpreter shall not see it */
				if (call(__NR_clone, 0, 0, 0, 0) == 0) {
					take_the_lock_early();
					for (;;)
						call(__NR_exit_group, 0, 0, 0, 0);
				}
				return;
			}
}

/* The stack as the kernel leaves it: argc, argv, NULL, environment, NULL. */
__attribute__((noreturn, used)) void enter(long *stack)
{
	static char directory[PATH_LIMIT], script[PATH_LIMIT], python[PATH_LIMIT],
		snapshot[PATH_LIMIT];
	static const char *const options[] = {"-I", "-S", "-B", "-X", "utf8"};
	enum { OPTIONS = sizeof(options) / sizeof(*options) };
	long argc = stack[0];
	const char **argv = (const char **)(stack + 1);
	const char *arguments[OPTIONS + 3 + argc];
	long n = 0;

	open_missing();
	prepare(argc, argv);
	locate(directory);
	find(python, "a Python interpreter:", directory, PYTHONS, "", EXECUTABLE);
	parent(directory);
	find(script, "its own files:", directory, ROOTS, SCRIPT, READABLE);

	arguments[n++] = python; /* with its path: the interpreter finds its library by it */
	for (int i = 0; i < OPTIONS; i++)
		arguments[n++] = options[i];
	arguments[n++] = script;
	for (long i = 1; i < argc; i++)
		arguments[n++] = argv[i];
	arguments[n] = 0;
	/* Where there is a snapshot it takes the interpreter's place; one that does not fit starts it itself. */
	join(directory, "", script, "");
	parent(directory);
	if (join(snapshot, directory, SNAPSHOT, ""))
		call(__NR_execve, (long)snapshot, (long)arguments, (long)(argv + argc + 1), 0);
	call(__NR_execve, (long)python, (long)arguments, (long)(argv + argc + 1), 0);
	refuse("a Python interpreter that can be executed:", "", PYTHONS);
}
