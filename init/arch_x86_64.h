/* x86_64: entry point and raw system call, nothing else. */
#ifndef SKERRY_ARCH_H
#define SKERRY_ARCH_H

/* The kernel enters with the argument count at the stack pointer and no return address. */
#define ENTRY_POINT __asm__(".globl _start\n" \
	".type _start, @function\n" \
	"_start:\n" \
	"\txor %ebp, %ebp\n" \
	"\tmov %rsp, %rdi\n" \
	"\tand $-16, %rsp\n" \
	"\tcall enter\n" \
	"\tud2\n")

static inline int64_t raw_call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
			       uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#endif
