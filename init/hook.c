/* HOOK: run a program with bytes on its stdin, keep the beginning of what it says, and never wait past the time.
 *
 * The end of the hook is seen by its pidfd, not by the end of its output: a grandchild may hold that open for
 * ever. Its stdin is a pipe, which a hook may open by name; a pipe nobody reads raises SIGPIPE, so that is blocked
 * and taken back. */
#include <asm/poll.h>
#include <asm/signal.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <linux/wait.h>

#include "init.h"

#define CLOCK_MONOTONIC_ID 1 /* linux/time.h */
#define LIFTED 10	     /* above all fds a hook starts with */
#define ERROR_FD 3	     /* closed by execve */

enum { INPUT, OUTPUT, OUTCOME, CHILD, WATCHED };

struct pipe_fds {
	int32_t read, write;
};

struct watch {
	int32_t fd;
	int16_t events, revents;
};

struct hook {
	const char *path;
	const uint64_t *argv, *envp;
	const uint8_t *state; /* what is still to be written */
	uint64_t length, deadline_ms;
	struct pipe_fds input, output, outcome;
	struct watch watch[WATCHED];
	int64_t pid;
	int32_t error; /* of execve */
	uint32_t kept;
	uint8_t text[HOOK_OUTPUT_BYTES];
};

_Static_assert(sizeof(struct hook) + PATH_BYTES <= SCRATCH_BYTES, "scratch");

static uint64_t now_ms(void)
{
	struct __kernel_timespec now = {0, 0};

	call2(NR_clock_gettime, CLOCK_MONOTONIC_ID, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* In the child: the fds of a hook are 0, 1, 2 and, until execve, ERROR_FD. */
static int64_t arrange_fds(const struct hook *hook)
{
	const int32_t sources[] = {hook->input.read, hook->output.write, hook->outcome.write};
	int64_t lifted[LENGTH(sources)], error = 0;

	/* first out of the way, since any of them may have a number that is a goal */
	for (unsigned i = 0; i < LENGTH(sources); i++) {
		lifted[i] = call3(NR_fcntl, sources[i], F_DUPFD_CLOEXEC, LIFTED);
		if (lifted[i] < 0)
			return lifted[i];
	}
	for (unsigned fd = 0; fd < ERROR_FD && error >= 0; fd++)
		error = call3(NR_dup3, lifted[fd == 0 ? 0 : 1], fd, 0);
	if (error >= 0)
		error = call3(NR_dup3, lifted[2], ERROR_FD, O_CLOEXEC);
	if (error >= 0)
		error = call3(NR_close_range, ERROR_FD + 1, UINT32_MAX, 0);
	return error;
}

/* With every other copy of the reading end closed, a pipe without a reader means that init is gone. */
static int is_orphan(void)
{
	struct watch output = {1, 0, 0};
	struct __kernel_timespec at_once = {0, 0};

	return call5(NR_ppoll, &output, 1, &at_once, 0, 0) > 0;
}

static _Noreturn void become_hook(const struct hook *hook)
{
	int64_t error = call2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
	int32_t number, to = hook->outcome.write;

	if (error >= 0)
		error = arrange_fds(hook);
	if (error >= 0) {
		to = ERROR_FD;
		if (is_orphan()) /* died before the death signal was asked for */
			leave(EXIT_FAILED);
		call2(NR_setpgid, 0, 0);
		error = set_mask(SIG_SETMASK, 0, NULL);
	}
	if (error >= 0)
		error = call3(NR_execve, hook->path, hook->argv, hook->envp);
	number = (int32_t)-error;
	call3(NR_write, to, &number, sizeof(number));
	leave(EXIT_FAILED);
}

static void close_watched(struct hook *hook, unsigned which)
{
	close_fd(hook->watch[which].fd);
	hook->watch[which].fd = -1; /* ppoll passes over it */
}

/* Open the pipes and start the child. A failure leaves them open: HOOK is fatal always (plan.c sees to it). */
static int64_t start(struct hook *hook)
{
	int32_t pidfd = -1;
	int64_t error = call2(NR_pipe2, &hook->input, O_CLOEXEC);

	if (error >= 0)
		error = call2(NR_pipe2, &hook->output, O_CLOEXEC);
	if (error >= 0)
		error = call2(NR_pipe2, &hook->outcome, O_CLOEXEC);
	if (error < 0)
		return error;
	/* only the ends that stay here, so that the child's keep to blocking */
	call3(NR_fcntl, hook->input.write, F_SETFL, O_NONBLOCK);
	call3(NR_fcntl, hook->output.read, F_SETFL, O_NONBLOCK);
	/* clone, as filters of containers deny clone3; a new pid namespace may be what the child is born in */
	hook->pid = call3(NR_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd);
	if (hook->pid == 0)
		become_hook(hook);
	if (hook->pid < 0)
		return hook->pid;
	call2(NR_setpgid, hook->pid, hook->pid); /* here as well: whoever comes first */
	close_fd(hook->input.read);
	close_fd(hook->output.write);
	close_fd(hook->outcome.write);
	hook->watch[INPUT] = (struct watch){hook->input.write, POLLOUT, 0};
	hook->watch[OUTPUT] = (struct watch){hook->output.read, POLLIN, 0};
	hook->watch[OUTCOME] = (struct watch){hook->outcome.read, POLLIN, 0};
	hook->watch[CHILD] = (struct watch){pidfd, POLLIN, 0};
	return 0;
}

static void feed(struct hook *hook)
{
	int64_t written = 0;

	if (hook->length > 0)
		written = RETRY(call3(NR_write, hook->watch[INPUT].fd, hook->state, hook->length));
	if (written == -EPIPE)
		drop_pending(SIGPIPE);
	if (written > 0) {
		hook->state += written;
		hook->length -= (uint64_t)written;
	}
	if (hook->length == 0 || (written < 0 && written != -EAGAIN))
		close_watched(hook, INPUT);
}

/* Read what there is, keep what there is room for. At most a pipe full: another writer must not keep us. */
static void drain(struct hook *hook)
{
	uint8_t *room = (uint8_t *)(hook + 1);

	for (unsigned chunk = 0; chunk < 16; chunk++) {
		int64_t got = RETRY(call3(NR_read, hook->watch[OUTPUT].fd, room, PATH_BYTES));
		uint64_t keep = HOOK_OUTPUT_BYTES - hook->kept;

		if (got == 0)
			close_watched(hook, OUTPUT);
		if (got <= 0)
			return;
		if (keep > (uint64_t)got)
			keep = (uint64_t)got;
		memcpy(hook->text + hook->kept, room, keep);
		hook->kept += (uint32_t)keep;
	}
}

static void learn_outcome(struct hook *hook)
{
	int32_t number = 0;
	int64_t got = RETRY(call3(NR_read, hook->watch[OUTCOME].fd, &number, sizeof(number)));

	if (got == sizeof(number))
		hook->error = number;
	close_watched(hook, OUTCOME);
}

/* Wait for the next event; 0 when the time is over. */
static int64_t wait_event(struct hook *hook)
{
	struct __kernel_timespec left;
	uint64_t now, left_ms;

	if (hook->deadline_ms == 0)
		return call5(NR_ppoll, hook->watch, WATCHED, 0, 0, 0);
	now = now_ms();
	if (now >= hook->deadline_ms)
		return 0;
	left_ms = hook->deadline_ms - now;
	left.tv_sec = (int64_t)(left_ms / 1000);
	left.tv_nsec = (int64_t)(left_ms % 1000) * 1000000;
	return call5(NR_ppoll, hook->watch, WATCHED, &left, 0, 0);
}

/* Serve the hook until it has ended (0) or its time has (-ETIMEDOUT). */
static int64_t serve(struct hook *hook)
{
	for (;;) {
		int64_t events = wait_event(hook);

		if (events == -EINTR)
			continue;
		if (events <= 0)
			return events == 0 ? -ETIMEDOUT : events;
		if (hook->watch[INPUT].revents)
			feed(hook);
		if (hook->watch[OUTPUT].revents)
			drain(hook);
		if (hook->watch[OUTCOME].revents)
			learn_outcome(hook);
		if (hook->watch[CHILD].revents)
			return 0;
	}
}

/* The last words may be in the pipes when the end is seen. */
static void finish(struct hook *hook)
{
	if (hook->watch[OUTCOME].fd >= 0)
		learn_outcome(hook);
	if (hook->watch[OUTPUT].fd >= 0)
		drain(hook);
	for (unsigned which = 0; which < WATCHED; which++)
		if (hook->watch[which].fd >= 0)
			close_watched(hook, which);
}

/* HOOK path argv envp state length timeout_ms */
int64_t op_hook(const struct plan *plan, const uint64_t *args)
{
	struct hook *hook = (void *)scratch;
	uint64_t mask = 0;
	int32_t status = 0;
	int64_t error;

	if (!in_data(plan, args[3], args[4]))
		return -EFAULT;
	memset(hook, 0, sizeof(*hook));
	hook->path = (const void *)args[0];
	hook->argv = (const void *)args[1];
	hook->envp = (const void *)args[2];
	hook->state = (const void *)args[3];
	hook->length = args[4];
	hook->deadline_ms = args[5] ? now_ms() + args[5] : 0;
	set_mask(SIG_BLOCK, SIGNAL_BIT(SIGPIPE), &mask);
	error = start(hook);
	if (error < 0)
		return error;
	error = serve(hook);
	if (error < 0) {
		call2(NR_kill, -hook->pid, SIGKILL);
		call2(NR_kill, hook->pid, SIGKILL); /* it may have left its group */
	}
	RETRY(call4(NR_wait4, hook->pid, &status, __WALL, 0));
	finish(hook);
	set_mask(SIG_SETMASK, mask, NULL);
	if (hook->error)
		error = -hook->error;
	if (error < 0 || status != 0)
		fail(plan, error, (uint64_t)(uint32_t)status, hook->text, hook->kept);
	return 0;
}
