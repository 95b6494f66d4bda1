/*
 * The errand: a shim's start or delete, done by a fork of the zygote instead of a new interpreter.
 *
 * containerd runs these once for each container, and an interpreter takes longer to start than they take. What is sent
 * is everything that a program is started with: its words, its environment, its directory and its fds 0 to 2. The
 * zygote (src/skerry/shims/task/zygote.py) looks at us and takes the errand, or closes the connection, and then nothing
 * was done and an interpreter is started.
 *
 *     name, number of words, words, environment -->
 *                             <-- TAKEN
 *     fds -->
 *                             <-- the exit code
 *
 * The fds come second: in the queue of a zygote that hangs they would keep our output open, and containerd would wait.
 *
 * The name of its socket has the checksum of what must be the same for both, our files and containerd's address.
 * Nothing depends on the checksum: the zygote compares itself with us.
 */

#include <asm/errno.h>
#include <asm/poll.h>
#include <linux/fcntl.h>
#include <linux/time_types.h>
#include <linux/uio.h>
#include <linux/un.h>

#include "../init/message.h"
#include "launcher.h"

/* sys/socket.h has these, no header of the kernel does */
enum { UNIX = 1, SEQPACKET = 5, SOCKET = 1, RIGHTS = 1, NOSIGNAL = 0x4000, PEERCRED = 17 };

enum { FDS = 4, TAKEN = 0xff, MESSAGE_LIMIT = 1 << 16, ANSWER_S = 2 };

#define PREFIX "/run/containerd/s/skerry-zygote-"

struct rights {
	uint64_t bytes;
	int32_t level, type, fds[FDS];
};

static char errand[MESSAGE_LIMIT];
static long used;

/* One string with its zero byte; what does not fit makes the whole too long. */
static void add(const char *text)
{
	do {
		if (used < MESSAGE_LIMIT)
			errand[used] = *text;
		used++;
	} while (*text++);
}

static void add_number(long number)
{
	char digits[24];
	long at = sizeof(digits) - 1;

	digits[at] = 0;
	do
		digits[--at] = (char)('0' + number % 10);
	while (number /= 10);
	add(digits + at);
}

/* FNV-1a, 64 bits */
static uint64_t checksum(uint64_t sum, const char *text)
{
	do
		sum = (sum ^ (uint8_t)*text) * 0x100000001b3;
	while (*text++);
	return sum;
}

static const char *value_of(long argc, const char **argv, const char *flag)
{
	for (long i = 1; i + 1 < argc; i++)
		if (same(argv[i], flag))
			return argv[i + 1];
	return "";
}

static long reach(const char *script, const char *address)
{
	static const char prefix[] = PREFIX, digits[] = "0123456789abcdef";
	/* static: what the compiler would clear on the stack it clears with memset, which is not here */
	static struct sockaddr_un place = {.sun_family = UNIX};
	struct {
		int32_t pid, user, group;
	} peer = {0, -1, -1};
	uint32_t size = sizeof(peer);
	uint64_t sum = checksum(checksum(0xcbf29ce484222325, script), address);
	long end = 0, sock = call(__NR_socket, UNIX, SEQPACKET | O_CLOEXEC, 0, 0);

	for (; prefix[end]; end++)
		place.sun_path[end] = prefix[end];
	for (int shift = 60; shift >= 0; shift -= 4)
		place.sun_path[end++] = digits[sum >> shift & 15];
	if (sock >= 0 && call(__NR_connect, sock, (long)&place, sizeof(place), 0) == 0 &&
	    raw_call(__NR_getsockopt, (uint64_t)sock, SOCKET, PEERCRED, (uint64_t)&peer,
		     (uint64_t)&size, 0) == 0 &&
	    (uint64_t)peer.user == (uint64_t)call(__NR_geteuid, 0, 0, 0, 0))
		return sock;
	call(__NR_close, sock, 0, 0, 0);
	return -1;
}

static long send(long sock, const void *data, long size, struct rights *rights)
{
	struct iovec part = {(void *)data, (uint64_t)size};
	struct message message = {
		.parts = &part,
		.count = 1,
		.control = rights,
		.control_bytes = rights ? sizeof(*rights) : 0,
	};
	long sent;

	do
		sent = call(__NR_sendmsg, sock, (long)&message, NOSIGNAL, 0);
	while (sent == -EINTR);
	return sent;
}

static void send_fds(long sock, long directory)
{
	struct rights rights = {sizeof(rights), SOCKET, RIGHTS, {0, 1, 2, (int32_t)directory}};

	send(sock, "", 1, &rights);
}

/* The byte that comes next; -1 at the end. */
static long next(long sock)
{
	uint8_t byte = 0;
	long got;

	do
		got = call(__NR_read, sock, (long)&byte, 1, 0);
	while (got == -EINTR);
	return got == 1 ? byte : -1;
}

static int answers(long sock)
{
	struct {
		int32_t fd;
		int16_t events, revents;
	} wait = {(int32_t)sock, POLLIN, 0};
	struct __kernel_timespec limit = {ANSWER_S, 0};

	return raw_call(__NR_ppoll, (uint64_t)&wait, 1, (uint64_t)&limit, 0, 0, 0) == 1;
}

/* Returns where nobody took it. */
void send_on_errand(long argc, const char **argv, const char *name, const char *script)
{
	static const char core[] = "SCHED_CORE=";
	const char **environment = argv + argc + 1;
	long sock, directory, code;

	for (const char **each = environment; *each; each++) {
		long i = 0;

		while (core[i] && (*each)[i] == core[i])
			i++;
		if (!core[i])
			return; /* it needs a cookie of its own, which a fork would share */
	}
	directory = call(__NR_openat, AT_FDCWD, (long)".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	sock = directory < 0 ? -1 : reach(script, value_of(argc, argv, "-address"));
	if (sock < 0)
		return;
	add(name);
	add_number(argc - 1);
	for (const char **each = argv + 1; *each; each++)
		add(*each);
	for (const char **each = environment; *each; each++)
		add(*each);
	if (used <= MESSAGE_LIMIT && send(sock, errand, used, 0) == used && answers(sock) &&
	    next(sock) == TAKEN) {
		send_fds(sock, directory);
		code = next(sock);
		if (code < 0)
			say("skerry: the process that took this over has died\n");
		leave(code < 0 ? 1 : code);
	}
	call(__NR_close, sock, 0, 0, 0);
	call(__NR_close, directory, 0, 0, 0);
}
