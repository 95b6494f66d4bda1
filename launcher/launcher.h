/* What the two files of the launcher share: the kernel, and text. */
#include <asm/unistd.h>
#include <stdint.h>

#if defined(__x86_64__)
#include "../init/arch_x86_64.h"
#elif defined(__aarch64__)
#include "../init/arch_aarch64.h"
#else
#error "skerry is built for x86_64 and aarch64"
#endif

enum { PATH_LIMIT = 4096 };

void send_on_errand(long argc, const char **argv, const char *name, const char *script);

static inline long length(const char *text)
{
	long n = 0;

	while (text[n])
		n++;
	return n;
}

static inline long call(uint64_t number, long a, long b, long c, long d)
{
	return (long)raw_call(number, (uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d, 0, 0);
}

static inline void say(const char *text)
{
	call(__NR_write, 2, (long)text, length(text), 0);
}

static inline __attribute__((noreturn)) void leave(long code)
{
	for (;;)
		call(__NR_exit_group, code, 0, 0, 0);
}

static inline int same(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

static inline int has(long argc, const char **argv, const char *word)
{
	for (long i = 1; i < argc; i++)
		if (same(argv[i], word))
			return 1;
	return 0;
}
