/* skerry-init: what its files share. The table of operations is plan/ops.py, printed here as ops.h. */
#ifndef SKERRY_INIT_H
#define SKERRY_INIT_H

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"
#if defined(__x86_64__)
#include "arch_x86_64.h"
#elif defined(__aarch64__)
#include "arch_aarch64.h"
#else
#error "no arch header for this machine"
#endif

/* One program, no library: what is shared between files needs no table of addresses. */
#pragma GCC visibility push(hidden)

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define PATH_BYTES 4096 /* PATH_MAX of the kernel, its zero byte included */

/* HEADER_FORMAT, OP_FORMAT, RECORD_FORMAT */
struct header {
	uint32_t magic, version, total, operations, relocations, registers, data_offset, data_bytes;
	int32_t conversation;
	uint32_t reserved;
};

struct op {
	uint16_t code, result, number;
	uint8_t fail, arguments;
	uint16_t errnos[ERRNOS];
	uint32_t target;
	uint8_t kinds[ARGUMENTS];
	uint16_t process;
	uint32_t reserved;
	uint64_t args[ARGUMENTS];
};

struct record {
	uint32_t kind, operation;
	int32_t error;
	uint32_t process;
	uint64_t value;
};

_Static_assert(sizeof(struct header) == HEADER_BYTES, "header");
_Static_assert(sizeof(struct op) == OP_BYTES, "op");
_Static_assert(sizeof(struct record) == RECORD_BYTES, "record");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "plans are little endian");

/* A plan in memory, and where this process is in it. */
struct plan {
	const struct header *header;
	const struct op *ops;
	uint8_t *data;
	uint32_t at;
	int32_t conversation; /* the socket of the header; after GATE the pipe received there */
	uint64_t registers[REGISTERS];
};

/* Casts any number or pointer the way the kernel takes it. */
#define call0(n) raw_call(n, 0, 0, 0, 0, 0, 0)
#define call1(n, a) raw_call(n, (uint64_t)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) raw_call(n, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) raw_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define call4(n, a, b, c, d) \
	raw_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)
#define call5(n, a, b, c, d, e) \
	raw_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), 0)
#define call6(n, a, b, c, d, e, f)                                                               \
	raw_call(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e),   \
		 (uint64_t)(f))

/* For calls that a stop and continue may interrupt; init installs no handlers. */
#define RETRY(expression)                               \
	__extension__({                                 \
		int64_t result_;                        \
		do                                      \
			result_ = (expression);         \
		while (result_ == -EINTR);              \
		result_;                                \
	})

static inline void close_fd(int64_t fd)
{
	call1(NR_close, fd);
}

static inline int is_error(int64_t result)
{
	return result < 0 && result >= -4095;
}

/* memory.c; the compiler calls them too */
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
size_t length_of(const char *text);

/* One room for all operations that need a large one (they do not nest): pages that no operation of the plan
 * touches cost nothing in a container that waits. */
#define SCRATCH_BYTES (RECORD_BYTES + RECORD_LIMIT_BYTES + 8)
extern uint8_t scratch[SCRATCH_BYTES];

/* plan.c */
int64_t load_plan(struct plan *plan, int fd);
int in_data(const struct plan *plan, uint64_t address, uint64_t bytes);

/* main.c; `value` and `output` are the wait status and the output of a hook, else 0 */
_Noreturn void leave(int status);
_Noreturn void fail(const struct plan *plan, int64_t error, uint64_t value, const void *output,
		    size_t bytes);

/* Operations: a negative errno, or 0 and the value for the register. */
int64_t op_syscall(const struct op *op, const uint64_t *args, uint64_t *value);
int64_t op_load(const uint64_t *args, uint64_t *value);
int64_t op_store(const uint64_t *args);
int op_branch(const uint64_t *args);
int64_t op_send(const struct plan *plan, const uint64_t *args);
int64_t op_recv(const struct plan *plan, const uint64_t *args, uint64_t *value);
int64_t op_write(const struct plan *plan, const uint64_t *args);
int64_t op_walk(const uint64_t *args, uint64_t *value);
int64_t op_check(const uint64_t *args);
int64_t op_checkcwd(void);
int64_t op_signals(void);
int64_t op_find(const struct plan *plan, const uint64_t *args, uint64_t *value);
int64_t op_hook(const struct plan *plan, const uint64_t *args);
int64_t op_gate(struct plan *plan, const uint64_t *args, uint64_t *value);
int64_t op_close(const uint64_t *args, unsigned count);
int64_t op_copytree(const uint64_t *args);
int64_t op_park(uint64_t *value);
int64_t op_wait(const uint64_t *args);

/* Type, mode, owner and identity of a file. */
static inline int64_t file_status(int64_t directory, const char *name, unsigned flags,
				  struct statx *status)
{
	return call5(NR_statx, directory, name, flags, STATX_BASIC_STATS, status);
}

/* signal.c: the kernel's sigset_t is one u64 */
#define SIGNAL_BIT(number) (1ULL << ((number)-1))
int64_t set_mask(int how, uint64_t mask, uint64_t *old);
void drop_pending(int number);

#pragma GCC visibility pop
#endif
