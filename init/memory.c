/* memcpy and memset, which the compiler may call even without a library, and one strlen. */
#include "init.h"

void *memcpy(void *to, const void *from, size_t bytes)
{
	uint8_t *target = to;
	const uint8_t *source = from;

	while (bytes--)
		*target++ = *source++;
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	uint8_t *target = to;

	while (bytes--)
		*target++ = (uint8_t)byte;
	return to;
}

size_t length_of(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}
