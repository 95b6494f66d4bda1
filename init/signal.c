/* Operations on signals: defaults for all, and a process that only waits. */
#include <asm/signal.h>
#include <linux/time_types.h>
#include <linux/wait.h>

#include "init.h"

#define LAST_SIGNAL 64

int64_t set_mask(int how, uint64_t mask, uint64_t *old)
{
	return call4(NR_rt_sigprocmask, how, &mask, old, sizeof(mask));
}

/* Take back a blocked signal that a write of ours has raised. */
void drop_pending(int number)
{
	struct __kernel_timespec at_once = {0, 0};
	uint64_t set = SIGNAL_BIT(number);

	call4(NR_rt_sigtimedwait, &set, 0, &at_once, sizeof(set));
}

/* SIGNALS */
int64_t op_signals(void)
{
	/* handler SIG_DFL, flags, restorer, mask: the kernel's struct sigaction */
	const uint64_t defaults[4] = {0};

	for (int number = 1; number <= LAST_SIGNAL; number++) {
		int64_t error;

		if (number == SIGKILL || number == SIGSTOP)
			continue;
		error = call4(NR_rt_sigaction, number, defaults, 0, sizeof(uint64_t));
		if (error < 0)
			return error;
	}
	return 0;
}

/* Reap what has ended; children of a clone without SIGCHLD are found here too, at the next occasion. wait4, as
 * waitid cannot tell a reaped child from none that has ended. */
static void reap(void)
{
	while (call4(NR_wait4, -1, 0, WNOHANG | __WALL, 0) > 0) {
	}
}

/* PARK: blocked signals reach even pid 1 of a pid namespace, whose defaults the kernel drops */
int64_t op_park(uint64_t *value)
{
	uint64_t set = SIGNAL_BIT(SIGTERM) | SIGNAL_BIT(SIGINT) | SIGNAL_BIT(SIGCHLD);
	int64_t number = set_mask(SIG_BLOCK, set, NULL);

	if (number < 0)
		return number;
	for (;;) {
		reap();
		number = call4(NR_rt_sigtimedwait, &set, 0, 0, sizeof(set));
		if (number == SIGTERM || number == SIGINT) {
			*value = (uint64_t)number;
			return 0;
		}
		if (number < 0 && number != -EINTR)
			return number;
	}
}
