/* skerry-init: perform a plan. argv[1] is the number of the fd the plan is read from (a sealed memfd; it stays
 * open, the plan closes it). No policy, no text, no library. The table of operations is plan/ops.py. */
#include "init.h"

uint8_t scratch[SCRATCH_BYTES] __attribute__((aligned(16)));
static struct plan plan;

_Noreturn void leave(int status)
{
	for (;;) {
		call1(NR_exit_group, status);
		__builtin_trap(); /* a filter may deny even exit_group */
	}
}

/* Report that the operation failed, and end. A reader that is gone ends the process by SIGPIPE: nobody is left
 * who could tell the difference. */
_Noreturn void fail(const struct plan *now, int64_t error, uint64_t value, const void *output,
		    size_t bytes)
{
	struct {
		struct record record;
		uint8_t output[HOOK_OUTPUT_BYTES];
	} report = {.record = {.kind = RECORD_FAILED, .operation = now->at, .value = value}};

	report.record.error = (int32_t)-error;
	if (now->at != NO_OPERATION)
		report.record.process = now->ops[now->at].process;
	memcpy(report.output, output, bytes);
	if (now->conversation >= 0)
		RETRY(call3(NR_write, now->conversation, &report, RECORD_BYTES + bytes));
	leave(now->at == NO_OPERATION ? EXIT_REFUSED : EXIT_FAILED);
}

static int64_t perform(const struct op *op, const uint64_t *args, uint64_t *value)
{
	switch (op->code) {
	case OP_SYSCALL:
		return op_syscall(op, args, value);
	case OP_LOAD:
		return op_load(args, value);
	case OP_STORE:
		return op_store(args);
	case OP_SEND:
		return op_send(&plan, args);
	case OP_RECV:
		return op_recv(&plan, args, value);
	case OP_WRITE:
		return op_write(&plan, args);
	case OP_WALK:
		return op_walk(args, value);
	case OP_CHECK:
		return op_check(args);
	case OP_CHECKCWD:
		return op_checkcwd();
	case OP_SIGNALS:
		return op_signals();
	case OP_FIND:
		return op_find(&plan, args, value);
	case OP_HOOK:
		return op_hook(&plan, args);
	case OP_GATE:
		return op_gate(&plan, args, value);
	case OP_CLOSE:
		return op_close(args, op->arguments);
	case OP_COPYTREE:
		return op_copytree(args);
	case OP_PARK:
		return op_park(value);
	case OP_WAIT:
		return op_wait(args);
	default: /* GOTO and BRANCH do nothing but choose where to go on */
		return 0;
	}
}

static void fetch(const struct op *op, uint64_t *args)
{
	for (unsigned place = 0; place < ARGUMENTS; place++) {
		args[place] = op->args[place];
		if (op->kinds[place] == KIND_DATA)
			args[place] += (uint64_t)plan.data;
		else if (op->kinds[place] == KIND_REGISTER)
			args[place] = plan.registers[args[place]];
	}
}

/* Whether the operation's `fail` covers this errno. */
static int is_expected(const struct op *op, int64_t error)
{
	if (op->fail == FAIL_FATAL)
		return 0;
	for (unsigned i = 0; i < ERRNOS; i++)
		if (op->errnos[i] == -error || (i == 0 && op->errnos[0] == 0))
			return 1;
	return 0;
}

static int goes_elsewhere(const struct op *op, const uint64_t *args, int64_t error)
{
	if (op->code == OP_BRANCH)
		return op_branch(args);
	return op->code == OP_GOTO || (error < 0 && op->fail == FAIL_JUMP);
}

static void walk_plan(void)
{
	/* what no operation has written is no fd, no uid and no pid */
	memset(plan.registers, 0xff, plan.header->registers * sizeof(plan.registers[0]));
	while (plan.at < plan.header->operations) {
		const struct op *op = &plan.ops[plan.at];
		uint64_t args[ARGUMENTS];
		uint64_t value = 0;
		int64_t error;

		fetch(op, args);
		error = perform(op, args, &value);
		if (error < 0) {
			if (!is_expected(op, error))
				fail(&plan, error, 0, NULL, 0);
			value = (uint64_t)error;
		}
		if (op->result != NO_REGISTER)
			plan.registers[op->result] = value;
		plan.at = goes_elsewhere(op, args, error) ? op->target : plan.at + 1;
	}
}

/* A decimal number of at most nine digits, or -1. */
static int number_of(const char *text)
{
	int number = 0;

	for (unsigned i = 0; text[i]; i++) {
		if (i == 9 || text[i] < '0' || text[i] > '9')
			return -1;
		number = number * 10 + (text[i] - '0');
	}
	return text[0] ? number : -1;
}

/* Called by the entry point of the arch header: argument count and arguments are on the stack. */
_Noreturn void enter(const uint64_t *stack);
ENTRY_POINT;

_Noreturn void enter(const uint64_t *stack)
{
	int64_t refused;
	int fd = stack[0] == 2 ? number_of((const char *)stack[2]) : -1;

	if (fd < 0)
		leave(EXIT_REFUSED);
	refused = load_plan(&plan, fd);
	if (refused < 0)
		leave(EXIT_REFUSED);
	if (refused > 0) {
		plan.at = NO_OPERATION;
		fail(&plan, -EINVAL, (uint64_t)refused, NULL, 0);
	}
	walk_plan();
	leave(0);
}
