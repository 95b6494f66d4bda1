/* aarch64: entry point and raw system call, nothing else. */
#ifndef SKERRY_ARCH_H
#define SKERRY_ARCH_H

/* The kernel enters with the argument count at the stack pointer and no return address. */
#define ENTRY_POINT __asm__(".globl _start\n" \
	".type _start, %function\n" \
	"_start:\n" \
	"\tmov x29, #0\n" \
	"\tmov x30, #0\n" \
	"\tmov x0, sp\n" \
	"\tbl enter\n" \
	"\tbrk #1\n")

static inline int64_t raw_call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
			       uint64_t e, uint64_t f)
{
	register uint64_t x8 __asm__("x8") = number;
	register uint64_t x0 __asm__("x0") = a;
	register uint64_t x1 __asm__("x1") = b;
	register uint64_t x2 __asm__("x2") = c;
	register uint64_t x3 __asm__("x3") = d;
	register uint64_t x4 __asm__("x4") = e;
	register uint64_t x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return (int64_t)x0;
}

#endif
