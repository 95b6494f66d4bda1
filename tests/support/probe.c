/* probe: what a container sees, asked from inside. Static; the black-box suite puts it into every rootfs.
 *
 * Each word prints what the kernel says, one fact a line, and never interprets it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const struct { const char *name; long number; } CALLS[] = {
    {"getcwd", SYS_getcwd},         {"getppid", SYS_getppid},
    {"getpid", SYS_getpid},         {"mkdirat", SYS_mkdirat},
    {"unlinkat", SYS_unlinkat},     {"personality", SYS_personality},
    {"keyctl", SYS_keyctl},         {"ioprio_get", SYS_ioprio_get},
    {"getpriority", SYS_getpriority}, {"setpriority", SYS_setpriority},
    {"sched_getscheduler", SYS_sched_getscheduler},
    {"unshare", SYS_unshare},       {"sethostname", SYS_sethostname},
    {"umask", SYS_umask},           {"setuid", SYS_setuid},
    {"socket", SYS_socket},         {"prctl", SYS_prctl},
    {"ptrace", SYS_ptrace},         {"syslog", SYS_syslog},
    {"mlock", SYS_mlock},           {"kill", SYS_kill},
};

static long number_of(const char *word)
{
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++)
        if (!strcmp(word, CALLS[i].name))
            return CALLS[i].number;
    return strtol(word, NULL, 0);
}

/* call NAME|NUMBER [arg...]: an argument is a number, or text after "s:" */
static int call(int argc, char **argv)
{
    long a[6] = {0};
    for (int i = 1; i < argc && i <= 6; i++)
        a[i - 1] = strncmp(argv[i], "s:", 2) ? (long)strtoull(argv[i], NULL, 0) : (long)(argv[i] + 2);
    errno = 0;
    long result = syscall(number_of(argv[0]), a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result == -1 && errno)
        printf("%s\n", strerrorname_np(errno) ? strerrorname_np(errno) : "UNKNOWN");
    else
        printf("%ld\n", result);
    return 0;
}

#ifdef __x86_64__
/* call32 NUMBER: a system call of the 32-bit table, without arguments */
static int call32(int argc, char **argv)
{
    (void)argc;
    int result;
    __asm__ volatile("int $0x80" : "=a"(result)
                     : "a"((int)strtol(argv[0], NULL, 0)), "b"(0), "c"(0), "d"(0) : "memory");
    printf("%d\n", result);
    return 0;
}
#endif

/* fds: every open descriptor and what it is */
static int fds(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int fd = 0; fd < 4096; fd++) {
        char path[64], target[512];
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        printf("%d %s\n", fd, target);
    }
    return 0;
}

/* catch: say "ready", wait for any signal, say which, exit with its number */
static int catch(int argc, char **argv)
{
    (void)argc, (void)argv;
    sigset_t all;
    int number = 0;
    sigfillset(&all);
    sigdelset(&all, SIGCHLD);
    sigprocmask(SIG_BLOCK, &all, NULL);
    puts("ready");
    fflush(stdout);
    sigwait(&all, &number);
    printf("signal %d\n", number);
    return number;
}

static void size(int fd)
{
    struct winsize w = {0};
    if (ioctl(fd, TIOCGWINSZ, &w) < 0)
        printf("%s\n", strerrorname_np(errno));
    else
        printf("%d %d\n", w.ws_row, w.ws_col);
    fflush(stdout);
}

/* size: rows and columns of stdin; winch: the same again after the next SIGWINCH */
static int size_now(int argc, char **argv)
{
    (void)argc, (void)argv;
    size(0);
    return 0;
}

static int winch(int argc, char **argv)
{
    (void)argc, (void)argv;
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    puts("ready");
    fflush(stdout);
    sigwait(&set, &number);
    size(0);
    return 0;
}

/* tty: which of 0-2 are terminals, the name of 0, and whether it controls this session */
static int tty(int argc, char **argv)
{
    (void)argc, (void)argv;
    const char *name = ttyname(0);
    int fd = open("/dev/tty", O_RDWR);
    printf("isatty %d %d %d\n", isatty(0), isatty(1), isatty(2));
    printf("name %s\n", name ? name : "none");
    printf("controlling %d\n", fd >= 0);
    printf("leader %d\n", getsid(0) == getpid());
    printf("foreground %d\n", tcgetpgrp(0) == getpgrp());
    return 0;
}

/* eat MIB: touch that much memory, say "done" */
static int eat(int argc, char **argv)
{
    (void)argc;
    size_t length = strtoul(argv[0], NULL, 0) << 20;
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    memset(memory, 1, length);
    puts("done");
    return 0;
}

/* open PATH r|w|rw: "ok" or the errno */
static int open_path(int argc, char **argv)
{
    int flags = argc < 2 || !strcmp(argv[1], "r") ? O_RDONLY : !strcmp(argv[1], "w") ? O_WRONLY : O_RDWR;
    int fd = open(argv[0], flags | O_NONBLOCK | O_NOCTTY);
    puts(fd < 0 ? strerrorname_np(errno) : "ok");
    return 0;
}

/* forks N: how many of N children could be made */
static int forks(int argc, char **argv)
{
    (void)argc;
    int wanted = atoi(argv[0]), made = 0;
    for (; made < wanted; made++) {
        pid_t pid = fork();
        if (pid < 0)
            break;
        if (!pid) {
            pause();
            _exit(0);
        }
    }
    printf("%d\n", made);
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    return 0;
}

/* park: say "ready" and stay; SIGTERM ends it with 0 */
static void leave(int number)
{
    (void)number;
    _exit(0);
}

__attribute__((noreturn)) static int park(int argc, char **argv)
{
    (void)argc, (void)argv;
    signal(SIGTERM, leave);
    puts("ready");
    fflush(stdout);
    for (;;) {
        pause();
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

/* policy: the memory policy of this process: mode with flags, first word of nodes */
static int policy(int argc, char **argv)
{
    (void)argc, (void)argv;
    int mode = -1;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, NULL, 0) < 0)
        printf("%s\n", strerrorname_np(errno));
    else
        printf("%d %lu\n", mode, nodes[0]);
    return 0;
}

/* sched: policy, flags, nice, priority, runtime, deadline, period of this process */
static int sched(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct { unsigned size, policy; unsigned long long flags; int nice; unsigned priority;
             unsigned long long runtime, deadline, period; unsigned min, max; } a = {0};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) < 0)
        return 1;
    printf("%u %llu %d %u %llu %llu %llu\n", a.policy, a.flags, a.nice, a.priority,
           a.runtime, a.deadline, a.period);
    return 0;
}

/* pass FD... -- PROGRAM [arg...]: run a program with those descriptors as 3, 4, ... and no others. With LISTEN_FDS in the
 * environment LISTEN_PID becomes its pid, as sd_listen_fds(3) wants it. */
static int pass(int argc, char **argv)
{
    int count = 0;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (getenv("LISTEN_FDS"))
        setenv("LISTEN_PID", pid, 1);
    for (; count < argc && strcmp(argv[count], "--"); count++)
        if (dup2(atoi(argv[count]), 100 + count) < 0)
            return 98;
    for (int n = 0; n < count; n++)
        if (dup2(100 + n, 3 + n) < 0)
            return 98;
    close_range(3 + count, ~0U, 0);
    if (count < argc - 1)
        execv(argv[count + 1], argv + count + 1);
    return 97;
}

/* notify MESSAGE...: send each message to $NOTIFY_SOCKET as sd_notify(3) does; `~` stands for a new line */
static int notify(int argc, char **argv)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *where = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!where || fd < 0) {
        puts("no NOTIFY_SOCKET");
        return 1;
    }
    strncpy(to.sun_path, where, sizeof to.sun_path - 1);
    for (int i = 0; i < argc; i++) {
        for (char *c = argv[i]; *c; c++)
            if (*c == '~')
                *c = '\n';
        if (sendto(fd, argv[i], strlen(argv[i]), 0, (struct sockaddr *)&to, sizeof to) < 0) {
            puts(strerrorname_np(errno));
            return 1;
        }
    }
    puts("sent");
    return 0;
}

static const struct { const char *name; int (*run)(int, char **); int needs; } WORDS[] = {
    {"call", call, 1}, {"fds", fds, 0},     {"catch", catch, 0},     {"size", size_now, 0},
    {"winch", winch, 0}, {"tty", tty, 0},   {"eat", eat, 1},         {"open", open_path, 1},
    {"notify", notify, 1}, {"pass", pass, 1}, {"forks", forks, 1}, {"park", park, 0}, {"policy", policy, 0},   {"sched", sched, 0},
#ifdef __x86_64__
    {"call32", call32, 1},
#endif
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof WORDS / sizeof *WORDS; i++)
        if (!strcmp(argv[1], WORDS[i].name) && argc - 2 >= WORDS[i].needs)
            return WORDS[i].run(argc - 2, argv + 2);
    fputs("probe: what?\n", stderr);
    return 99;
}
