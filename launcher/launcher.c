/*
 * The launcher: what is installed as `skerry` and as `containerd-shim-skerry-v2`.
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
 * The launcher finds itself by /proc/self/exe, so a symbolic link to it works from anywhere. The last part of the name
 * it was called by is the first word for launch.py, which chooses by it what to be.
 *
 * A shim's start and delete are for the zygote first (errand.c): an interpreter that has everything loaded and forks.
 */

#include <asm/errno.h>
#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>

#include "launcher.h"

ENTRY_POINT;

enum { READABLE = 4, EXECUTABLE = 1 };

#define SCRIPT "/skerry/launch.py"
#define SNAPSHOT "skerry.snapshot" /* beside it */
#define SHIM "containerd-shim-"

/* A shim's start lives on: it writes a byte here when its caller may go. */
enum { RELEASE_FD = 3 };

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
	leave(1);
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

static void prepare_for_container(void)
{
	/* no SIGCHLD: whoever waits for children of the interpreter shall not see it */
	if (call(__NR_clone, 0, 0, 0, 0) == 0) {
		/* Whoever reads to the end of our output does not wait for this. */
		for (long fd = 0; fd < 3; fd++)
			call(__NR_close, fd, 0, 0, 0);
		take_the_lock_early();
		leave(0);
	}
}

/* The parent's part: until the child releases us, or ends. */
static __attribute__((noreturn)) void wait_for_release(long child, int fd)
{
	unsigned char code = 1;
	int status = 0;
	long got;

	do
		got = call(__NR_read, fd, (long)&code, 1, 0);
	while (got == -EINTR);
	if (got == 1)
		leave(code);
	while (call(__NR_wait4, child, (long)&status, 0, 0) == -EINTR)
		;
	leave(status & 0x7f ? 1 : status >> 8 & 0xff);
}

/*
 * Go on in a child, which may stay as the pod's daemon. The caller waits for this process and for the end of what it
 * has as standard output, so the child answers, lets both go, and is the one interpreter there ever was. What Python has
 * no function for is done here: orphans of containers become its children (PR_SET_CHILD_SUBREAPER, which a child of its
 * own would not inherit), and where containerd is told to isolate by core scheduling it gets a cookie for its processes.
 */
static void go_on_in_child(const char **environment)
{
	enum { SCHED_CORE = 62, CREATE = 1, OF_GROUP = 2 };
	static const char core[] = "SCHED_CORE=";
	int ends[2];
	long child;

	if (call(__NR_pipe2, (long)ends, O_CLOEXEC, 0, 0) < 0)
		return;
	child = call(__NR_clone, SIGCHLD, 0, 0, 0);
	if (child > 0) {
		call(__NR_close, ends[1], 0, 0, 0);
		wait_for_release(child, ends[0]);
	}
	if (ends[1] != RELEASE_FD)
		call(__NR_dup3, ends[1], RELEASE_FD, 0, 0);
	call(__NR_setsid, 0, 0, 0, 0);
	call(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0);
	for (; *environment; environment++) {
		long i = 0;

		while (core[i] && (*environment)[i] == core[i])
			i++;
		if (!core[i] && (*environment)[i] &&
		    call(__NR_prctl, SCHED_CORE, CREATE, 0, OF_GROUP) < 0) {
			say("skerry: cannot make a core scheduling cookie\n");
			leave(1);
		}
	}
}

static int is_shim(const char *name)
{
	static const char shim[] = SHIM;
	long i = 0;

	while (shim[i] && name[i] == shim[i])
		i++;
	return !shim[i];
}

static void prepare(long argc, const char **argv, const char *name, const char *script)
{
	int starts = has(argc, argv, "start");

	if (!is_shim(name)) {
		if (has(argc, argv, "create") || has(argc, argv, "run") || has(argc, argv, "exec"))
			prepare_for_container();
		return;
	}
	if (starts)
		prepare_for_container();
	if (starts || has(argc, argv, "delete"))
		send_on_errand(argc, argv, name, script);
	if (starts)
		go_on_in_child(argv + argc + 1);
}

static const char *last_part(const char *path)
{
	const char *last = path;

	for (; *path; path++)
		if (*path == '/')
			last = path + 1;
	return last;
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
	const char *arguments[OPTIONS + 4 + argc];
	const char *name = argc > 0 ? last_part(argv[0]) : "skerry";
	long n = 0;

	open_missing();
	locate(directory);
	find(python, "a Python interpreter:", directory, PYTHONS, "", EXECUTABLE);
	parent(directory);
	find(script, "its own files:", directory, ROOTS, SCRIPT, READABLE);
	prepare(argc, argv, name, script);

	arguments[n++] = python; /* with its path: the interpreter finds its library by it */
	for (int i = 0; i < OPTIONS; i++)
		arguments[n++] = options[i];
	arguments[n++] = script;
	arguments[n++] = name;
	for (long i = 1; i < argc; i++)
		arguments[n++] = argv[i];
	arguments[n] = 0;
	/* Where there is a snapshot it takes the interpreter's place; one that does not fit starts it itself. It holds the
	 * command line, not the shim of containerd, which lives long and has a zygote. */
	join(directory, "", script, "");
	parent(directory);
	if (!is_shim(name) && join(snapshot, directory, SNAPSHOT, ""))
		call(__NR_execve, (long)snapshot, (long)arguments, (long)(argv + argc + 1), 0);
	call(__NR_execve, (long)python, (long)arguments, (long)(argv + argc + 1), 0);
	refuse("a Python interpreter that can be executed:", "", PYTHONS);
}
