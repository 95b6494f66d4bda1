/* The first process of a small guest for tests of the machine: it loads modules, says hello on the port named
 * `agent`, and then runs what each CONTROL frame holds as a shell command. An answer is a CONTROL frame: the exit
 * status in decimal, a blank, the output. Not the project's agent: it shows what QEMU and the host's half do. */

#include "port.h"

#define OUTPUT_LIMIT (200 * 1024)

static char output[OUTPUT_LIMIT + 16], command[1 << 20];

static void run(int port) {
    int ends[2], status = 0;
    size_t length = 0;
    if (pipe(ends))
        return;
    pid_t child = fork();
    if (!child) {
        setsid();
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execl("/bin/busybox", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while (length < OUTPUT_LIMIT) {
        ssize_t n = read(ends[0], output + 16 + length, OUTPUT_LIMIT - length);
        if (n <= 0)
            break;
        length += n;
    }
    close(ends[0]);
    waitpid(child, &status, 0);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    char number[8];
    int digits = snprintf(number, sizeof number, "%d ", code);
    memcpy(output + 16 - digits, number, digits);
    answer(port, output + 16 - digits, digits + length);
}

int main(void) {
    struct header header;
    int port = begin();
    for (;;) {
        take(port, &header, sizeof header);
        if (header.length >= sizeof command)
            reboot(RB_POWER_OFF);
        take(port, command, header.length);
        command[header.length] = 0;
        if (!strcmp(command, "shutdown"))
            reboot(RB_POWER_OFF);
        if (!strcmp(command, "ping"))
            answer(port, "0 pong", 6);
        else
            run(port);
    }
}
