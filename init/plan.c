/* The plan: map it, check every bound once, relocate. After this nothing of its shape is checked again but
 * what depends on registers. REFUSALS of plan/ops.py names the reasons. */
#include <linux/mman.h>

#include "init.h"

struct signature {
	uint8_t least, most, kinds[ARGUMENTS];
};

static const struct signature signatures[] = {OP_SIGNATURES};

#define REFUSE(reason) return REFUSED_##reason

/* Whether `bytes` bytes at this offset lie in the data. */
static int fits(const struct plan *plan, uint64_t offset, uint64_t bytes)
{
	uint64_t length = plan->header->data_bytes;

	return offset <= length && bytes <= length - offset;
}

/* The same for a pointer made of such an offset; for what is known only when the operation runs. */
int in_data(const struct plan *plan, uint64_t address, uint64_t bytes)
{
	uint64_t start = (uint64_t)plan->data;

	return address >= start && fits(plan, address - start, bytes);
}

/* The last byte of the data is the zero that ends every string: it is not for writing. */
static int fits_writing(const struct plan *plan, uint64_t offset, uint64_t bytes)
{
	return fits(plan, offset, bytes + 1);
}

static uint64_t check_layout(const struct header *header, uint64_t size)
{
	uint64_t end = HEADER_BYTES;

	if (header->total != size || header->reserved != 0 || header->conversation < -1)
		REFUSE(LAYOUT);
	if (header->registers > REGISTERS)
		REFUSE(LAYOUT);
	end += (uint64_t)header->operations * OP_BYTES;
	end += (uint64_t)header->relocations * sizeof(uint32_t);
	if (header->data_offset < end || header->data_offset % DATA_ALIGN_BYTES != 0)
		REFUSE(LAYOUT);
	if ((uint64_t)header->data_offset + header->data_bytes != size)
		REFUSE(LAYOUT);
	return 0;
}

static uint64_t check_argument(const struct plan *plan, const struct op *op, unsigned place)
{
	uint8_t kind = op->kinds[place];
	uint64_t value = op->args[place];

	if (place >= op->arguments) {
		if (kind != 0 || value != 0)
			REFUSE(ARGUMENTS);
		return 0;
	}
	if (kind > KIND_REGISTER || !(signatures[op->code].kinds[place] & (1u << kind)))
		REFUSE(ARGUMENTS);
	if (kind == KIND_DATA && value >= plan->header->data_bytes)
		REFUSE(RANGE);
	if (kind == KIND_REGISTER && value >= plan->header->registers)
		REFUSE(REGISTER);
	return 0;
}

static int is_width(uint64_t width)
{
	return width == 4 || width == 8;
}

static int is_walk(uint64_t flags)
{
	const uint64_t both = WALK_DIRECTORY | WALK_FILE;

	return flags < WALK_NOFOLLOW << 1 && (flags & ~(uint64_t)WALK_NOFOLLOW) != 0 &&
	       (flags & both) != both;
}

/* What the numbers among the arguments must satisfy; lengths in registers are looked at when they are known. */
static int check_numbers(const struct plan *plan, const struct op *op)
{
	const uint64_t *args = op->args;

	switch (op->code) {
	case OP_LOAD:
		return is_width(args[1]) && fits(plan, args[0], args[1]);
	case OP_STORE:
		return is_width(args[1]) && fits_writing(plan, args[0], args[1]);
	case OP_BRANCH:
		return args[1] <= COMPARE_LT;
	case OP_SEND:
		return args[0] <= UINT32_MAX;
	case OP_RECV:
		if (op->kinds[1] == KIND_NUMBER)
			return args[0] <= UINT32_MAX && args[1] == 0 && args[2] == 0;
		return args[0] <= UINT32_MAX && args[2] <= RECORD_LIMIT_BYTES &&
		       fits_writing(plan, args[1], args[2]);
	case OP_WRITE:
		return op->kinds[2] != KIND_NUMBER || fits(plan, args[1], args[2]);
	case OP_WALK:
		return is_walk(args[2]) && args[3] <= 07777;
	case OP_FIND:
		return args[1] <= UINT32_MAX && args[0] % sizeof(uint64_t) == 0 &&
		       fits(plan, args[0], args[1] * sizeof(uint64_t));
	case OP_HOOK:
		return op->kinds[4] != KIND_NUMBER || fits(plan, args[3], args[4]);
	default:
		return 1;
	}
}

static int is_jump(const struct op *op)
{
	return op->code == OP_GOTO || op->code == OP_BRANCH || op->fail == FAIL_JUMP;
}

/* Jumps do not fail, and what a hook leaves behind is only good for the end. */
static int is_always_fatal(uint16_t code)
{
	return code == OP_GOTO || code == OP_BRANCH || code == OP_HOOK;
}

static uint64_t check_failure(const struct plan *plan, const struct op *op, uint32_t index)
{
	unsigned seen_end = 0;

	if (op->fail > FAIL_JUMP)
		REFUSE(FAIL);
	if (op->fail != FAIL_FATAL && is_always_fatal(op->code))
		REFUSE(FAIL);
	for (unsigned i = 0; i < ERRNOS; i++) {
		uint16_t number = op->errnos[i];

		if (number > 4095 || (number && (seen_end || op->fail == FAIL_FATAL)))
			REFUSE(FAIL);
		seen_end |= number == 0;
	}
	if (!is_jump(op))
		return op->target == 0 ? 0 : REFUSED_TARGET;
	if (op->target <= index || op->target > plan->header->operations)
		REFUSE(TARGET);
	return 0;
}

static uint64_t check_op(const struct plan *plan, uint32_t index)
{
	const struct op *op = &plan->ops[index];
	uint64_t refused;

	if (op->code >= LENGTH(signatures) || op->reserved != 0)
		REFUSE(CODE);
	if (op->code != OP_SYSCALL && op->number != 0)
		REFUSE(CODE);
	if (op->arguments < signatures[op->code].least || op->arguments > signatures[op->code].most)
		REFUSE(ARGUMENTS);
	if (op->result != NO_REGISTER && op->result >= plan->header->registers)
		REFUSE(REGISTER);
	for (unsigned place = 0; place < ARGUMENTS; place++) {
		refused = check_argument(plan, op, place);
		if (refused)
			return refused;
	}
	if (!check_numbers(plan, op))
		REFUSE(RANGE);
	return check_failure(plan, op, index);
}

static uint64_t check_ops(const struct plan *plan)
{
	for (uint32_t index = 0; index < plan->header->operations; index++) {
		uint64_t refused = check_op(plan, index);

		if (refused)
			return refused | (uint64_t)index << 32;
	}
	return 0;
}

/* A place that is listed twice holds a pointer the second time, which is no offset: refused as well. */
static uint64_t relocate(struct plan *plan)
{
	const uint32_t *places = (const void *)(plan->ops + plan->header->operations);

	for (uint32_t index = 0; index < plan->header->relocations; index++) {
		uint64_t refused = REFUSED_RELOCATION | (uint64_t)index << 32;
		uint64_t *slot;

		if (places[index] % sizeof(*slot) != 0 ||
		    !fits_writing(plan, places[index], sizeof(*slot)))
			return refused;
		slot = (uint64_t *)(void *)(plan->data + places[index]);
		if (*slot >= plan->header->data_bytes)
			return refused;
		*slot += (uint64_t)plan->data;
	}
	return 0;
}

static uint64_t check_plan(struct plan *plan, int fd, uint64_t size)
{
	const struct header *header = plan->header;
	int64_t seals = call2(NR_fcntl, fd, F_GET_SEALS);
	uint64_t refused;

	/* unsealed, another process could change what was checked, or cut the file under the mapping */
	if (seals < 0 || (~seals & (F_SEAL_WRITE | F_SEAL_SHRINK)) != 0)
		REFUSE(SEALS);
	refused = check_layout(header, size);
	if (refused)
		return refused;
	plan->ops = (const void *)(header + 1);
	plan->data = (uint8_t *)(uintptr_t)header + header->data_offset;
	if (header->data_bytes > 0 && plan->data[header->data_bytes - 1] != 0)
		REFUSE(END);
	refused = check_ops(plan);
	return refused ? refused : relocate(plan);
}

/* 0, or why the plan is refused; negative where there is no header that could say whom to tell. */
int64_t load_plan(struct plan *plan, int fd)
{
	struct statx status;
	int64_t address;

	if (file_status(fd, "", AT_EMPTY_PATH, &status) < 0)
		return -EBADF;
	if (status.stx_size < HEADER_BYTES || status.stx_size > PLAN_LIMIT_BYTES)
		return -EFBIG;
	/* private: relocations and results stay in this process */
	address = call6(NR_mmap, 0, status.stx_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (is_error(address))
		return address;
	plan->header = (const void *)address;
	if (plan->header->magic != MAGIC || plan->header->version != VERSION)
		return -EINVAL;
	plan->conversation = plan->header->conversation;
	return (int64_t)check_plan(plan, fd, status.stx_size);
}
