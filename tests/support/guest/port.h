/* What the guests of the tests have in common: modules, the port named `agent`, frames on it. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELLO "{\"event\":\"hello\",\"version\":\"test\",\"protocol\":1}"

struct header {
    uint8_t kind, zero;
    uint16_t stream;
    uint32_t length;
} __attribute__((packed));

static void load_modules(void) {
    char path[300];
    struct dirent **names;
    int count = scandir("/modules", &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/modules/%s", names[i]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (names[i]->d_name[0] != '.' && syscall(SYS_finit_module, fd, "", 0))
            fprintf(stderr, "%s: %s\n", path, strerror(errno));
        close(fd);
    }
}

static int open_port(void) {
    char path[600], name[64];
    for (int tries = 0; tries < 2000; tries++) {
        DIR *ports = opendir("/sys/class/virtio-ports");
        struct dirent *entry;
        while (ports && (entry = readdir(ports))) {
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
            FILE *file = fopen(path, "r");
            if (!file)
                continue;
            int ours = fgets(name, sizeof name, file) && !strcmp(name, "agent\n");
            fclose(file);
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            int fd = ours ? open(path, O_RDWR | O_CLOEXEC) : -1;
            if (fd >= 0) {
                closedir(ports);
                return fd;
            }
        }
        if (ports)
            closedir(ports);
        usleep(2000);
    }
    fprintf(stderr, "no port\n");
    reboot(RB_POWER_OFF);
    return -1;
}

static void take(int fd, void *to, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)to + done, size - done);
        if (n <= 0) { /* nobody is at the other end */
            struct pollfd nobody = {.fd = fd, .events = POLLIN};
            poll(&nobody, 1, 20);
            continue;
        }
        done += n;
    }
}

static void give(int fd, const void *from, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)from + done, size - done);
        if (n > 0)
            done += n;
    }
}

static void answer(int fd, const char *text, size_t size) {
    struct header header = {1, 0, 0, size};
    give(fd, &header, sizeof header);
    give(fd, text, size);
}

static int begin(void) {
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    setenv("PATH", "/bin", 1);
    int port = open_port();
    answer(port, HELLO, strlen(HELLO));
    return port;
}
