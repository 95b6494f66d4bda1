/* The conversation with the parent, and the gate. */
#include <asm/poll.h>
#include <asm/signal.h>
#include <linux/signalfd.h>

#include "init.h"
#include "message.h"

/* sys/socket.h has these, no header of the kernel does */
#define SOL_SOCKET_LEVEL 1
#define SCM_RIGHTS_TYPE 1
#define MSG_NOSIGNAL_FLAG 0x4000
#define MSG_CMSG_CLOEXEC_FLAG 0x40000000
#define FDS_OF_MESSAGE 253 /* SCM_MAX_FD; with room for all, none is left behind */

struct control {
	uint64_t bytes;
	int32_t level, type; /* the fds follow */
};

struct poll_fd {
	int32_t fd;
	int16_t events, revents;
};

static int64_t send_with_fd(int socket, struct iovec *part, int32_t fd)
{
	struct {
		struct control head;
		int32_t fd, padding;
	} control = {
		{sizeof(struct control) + sizeof(fd), SOL_SOCKET_LEVEL, SCM_RIGHTS_TYPE}, fd, 0};
	struct message message = {
		.parts = part, .count = 1, .control = &control, .control_bytes = sizeof(control)};

	return RETRY(call3(NR_sendmsg, socket, &message, MSG_NOSIGNAL_FLAG));
}

/* SEND kind value fd */
int64_t op_send(const struct plan *plan, const uint64_t *args)
{
	struct record record = {.kind = (uint32_t)args[0],
				.operation = plan->at,
				.process = plan->ops[plan->at].process,
				.value = args[1]};
	struct iovec part = {&record, sizeof(record)};
	int64_t sent;

	if ((int64_t)args[2] >= 0)
		sent = send_with_fd(plan->conversation, &part, (int32_t)args[2]);
	else
		sent = RETRY(call3(NR_write, plan->conversation, &record, sizeof(record)));
	return sent < 0 ? sent : 0;
}

/* RECV kind room capacity; plan.c has seen that capacity and one byte fit */
int64_t op_recv(const struct plan *plan, const uint64_t *args, uint64_t *value)
{
	const struct record *record = (const void *)scratch;
	uint8_t *data = (uint8_t *)args[1];
	int64_t got = RETRY(call3(NR_read, plan->conversation, scratch, SCRATCH_BYTES));
	uint64_t bytes;

	if (got < 0)
		return got;
	if (got == 0)
		leave(EXIT_FAILED);
	if ((uint64_t)got < sizeof(*record))
		return -EPROTO;
	if (record->kind == RECORD_ABORT)
		leave(EXIT_FAILED);
	if (record->kind != args[0])
		return -EPROTO;
	bytes = (uint64_t)got - sizeof(*record);
	if (bytes > args[2])
		return -EMSGSIZE;
	memcpy(data, record + 1, bytes);
	if (bytes < args[2])
		data[bytes] = 0;
	*value = record->value;
	return 0;
}

/* Receive one datagram: its fd, or -1 if it carries none or more than one. */
static int64_t receive_fd(int64_t socket)
{
	struct control *control = (void *)scratch;
	uint8_t byte;
	struct iovec part = {&byte, sizeof(byte)};
	struct message message = {.parts = &part,
				  .count = 1,
				  .control = control,
				  .control_bytes =
					  sizeof(*control) + FDS_OF_MESSAGE * sizeof(int32_t)};
	int64_t got = RETRY(call3(NR_recvmsg, socket, &message, MSG_CMSG_CLOEXEC_FLAG));
	const int32_t *fds = (const void *)(control + 1);
	uint64_t count;

	if (got < 0)
		return got;
	if (message.control_bytes < sizeof(*control) || control->level != SOL_SOCKET_LEVEL ||
	    control->type != SCM_RIGHTS_TYPE)
		return -EAGAIN;
	count = (control->bytes - sizeof(*control)) / sizeof(int32_t);
	if (count == 1)
		return fds[0];
	for (uint64_t i = 0; i < count; i++)
		close_fd(fds[i]);
	return -EAGAIN;
}

/* Answer + to the start that sent this fd. One that died meanwhile has not opened the gate. */
static int64_t answer(int64_t fd)
{
	int64_t written = RETRY(call3(NR_write, fd, "+", 1));

	if (written == 1)
		return fd;
	if (written == -EPIPE)
		drop_pending(SIGPIPE);
	close_fd(fd);
	return -EAGAIN;
}

/* A caught signal ends the process as the default would, but for those whose default is to do nothing, or to
 * stop (which the kernel does not do to the leader of a session of its own). */
static int64_t obey(int64_t signals)
{
	const uint64_t harmless = SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGURG) | SIGNAL_BIT(SIGWINCH) |
				  SIGNAL_BIT(SIGCONT) | SIGNAL_BIT(SIGTSTP) | SIGNAL_BIT(SIGTTIN) |
				  SIGNAL_BIT(SIGTTOU);
	struct signalfd_siginfo info;
	int64_t got = RETRY(call3(NR_read, signals, &info, sizeof(info)));

	if (got != sizeof(info))
		return got < 0 ? got : -EIO;
	if (!(SIGNAL_BIT(info.ssi_signo) & harmless))
		leave(128 + (int)info.ssi_signo);
	return -EAGAIN;
}

/* GATE fd signalfd */
int64_t op_gate(struct plan *plan, const uint64_t *args, uint64_t *value)
{
	struct poll_fd waiting[2] = {{(int32_t)args[0], POLLIN, 0}, {(int32_t)args[1], POLLIN, 0}};

	for (;;) {
		int64_t result = RETRY(call5(NR_ppoll, waiting, LENGTH(waiting), 0, 0, 0));

		if (result >= 0)
			result = -EAGAIN;
		if (waiting[1].revents)
			result = obey(waiting[1].fd);
		if (result == -EAGAIN && waiting[0].revents) {
			result = receive_fd(waiting[0].fd);
			if (result >= 0)
				result = answer(result);
		}
		if (result == -EAGAIN)
			continue;
		if (result < 0)
			return result;
		plan->conversation = (int32_t)result;
		*value = (uint64_t)result;
		return 0;
	}
}
