/* A process of a container that looks at every other one it can see, as fast as it can: through each one's cwd, root and
 * fds it tries to reach a file of the host, given as its absolute path there. Prints each finding once: `saw <comm>`
 * for a process whose links it could follow, `reached <comm> <link>` where it got at the file, `runs <comm> <program>`,
 * and `wrote <comm> <program>` where it could change that. Ends when /tmp/stop is there, with `end`. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FINDINGS 256

static char findings[FINDINGS][100];
static int count;

static void tell(const char *what, const char *comm, const char *link)
{
	char line[100];

	snprintf(line, sizeof(line), "%s %s%s%s", what, comm, *link ? " " : "", link);
	for (int i = 0; i < count; i++)
		if (!strcmp(findings[i], line))
			return;
	if (count == FINDINGS)
		return;
	strcpy(findings[count++], line);
	puts(line);
	fflush(stdout);
}

/* The directory itself may be the host's root, or a procfs that shows the host's processes. */
static void try_link(int pid, const char *comm, const char *link, const char *file)
{
	const char *ways[] = {"", "/1/root", "/self/root", "/.."};
	char path[4400], target[200];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, link);
	if (readlink(path, target, sizeof(target)) > 0)
		tell("saw", comm, "");
	for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s%s%s", pid, link, ways[i], file);
		if (access(path, F_OK) == 0)
			tell("reached", comm, link);
	}
}

static void try_program(int pid, const char *comm)
{
	char path[40], target[60];
	int fd, length;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	length = readlink(path, target, sizeof(target) - 1);
	if (length <= 0)
		return;
	target[length] = 0;
	tell("runs", comm, target);
	fd = open(path, O_WRONLY | O_APPEND);
	if (fd < 0)
		return;
	if (strncmp(target, "/bin/", 5) && write(fd, "x", 1) == 1)
		tell("wrote", comm, target);
	close(fd);
}

static void look(int pid, const char *file)
{
	char path[100], comm[32] = "?", link[40];
	struct dirent *entry;
	DIR *fds;
	FILE *name;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	name = fopen(path, "r");
	if (name) {
		if (fscanf(name, "%31s", comm) != 1)
			strcpy(comm, "?");
		fclose(name);
	}
	try_link(pid, comm, "cwd", file);
	try_link(pid, comm, "root", file);
	try_program(pid, comm);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds)))
		if (entry->d_name[0] != '.') {
			snprintf(link, sizeof(link), "fd/%.20s", entry->d_name);
			try_link(pid, comm, link, file);
		}
	if (fds)
		closedir(fds);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	while (access("/tmp/stop", F_OK)) {
		DIR *proc = opendir("/proc");
		struct dirent *entry;

		while (proc && (entry = readdir(proc))) {
			int pid = atoi(entry->d_name);

			if (pid > 1 && pid != getpid())
				look(pid, argv[1]);
		}
		if (proc)
			closedir(proc);
	}
	puts("end");
	return 0;
}
