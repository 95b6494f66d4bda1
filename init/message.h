/* msghdr of recvmsg(2), which no header of the kernel has for programs. Shared with the launcher. */
#ifndef SKERRY_MESSAGE_H
#define SKERRY_MESSAGE_H

#include <linux/uio.h>
#include <stdint.h>

struct message {
	void *name;
	uint32_t name_bytes;
	struct iovec *parts;
	uint64_t count;
	void *control;
	uint64_t control_bytes;
	uint32_t flags;
};

#endif
