/* An agent that speaks the link wrongly (security V55). It is honest until the start of a container whose program is
 * `evil <case> <count>`: then it does what the table at the end says. */

#include "port.h"

enum { CONTROL = 1, DATA, CREDIT, CLOSE };

static int port;
static char request[1 << 20], text[256 * 1024], answer_to[64], container[300], which[64];
static unsigned output_stream;
static const char *status = "created";
static long count;

static void frame(int kind, unsigned stream, uint32_t length, const void *payload, size_t size) {
    struct header header = {kind, 0, stream, length};
    give(port, &header, sizeof header);
    give(port, payload, size);
}

static void say(const char *document) {
    answer(port, document, strlen(document));
}

/* The value after a name, up to one of the characters that end it. */
static void find(const char *name, const char *ends, char *to, size_t size) {
    const char *at = strstr(request, name);
    size_t length = at ? strcspn(at + strlen(name), ends) : 0;
    if (length >= size)
        length = size - 1;
    memcpy(to, at ? at + strlen(name) : "", length);
    to[length] = 0;
}

static void ok(const char *value) {
    snprintf(text, sizeof text, "{\"id\":%s,\"ok\":%s}", answer_to, value);
    say(text);
}

static void end_of(const char *id, const char *code) {
    snprintf(text, sizeof text, "{\"event\":\"exit\",\"container\":\"%s\",\"process\":\"init\",\"code\":%s,\"signal\":0,\"reason\":\"exit\"}", id, code);
    say(text);
}

static void honest(void) { ok("{\"pid\":10}"); end_of(container, "0"); status = "stopped"; }
static void length_zero(void) { frame(CONTROL, 0, 0, "", 0); }
static void length_most(void) { frame(CONTROL, 0, 0xFFFFFFFF, "{}", 2); }
static void unknown_id(void) { say("{\"id\":4294967295,\"ok\":{}}"); }
static void long_code(void) { ok("{\"pid\":10}"); end_of(container, "1099511627776"); }
static void foreign_exit(void) { end_of("another", "0"); }
static void foreign_oom(void) { say("{\"event\":\"oom\",\"container\":\"another\"}"); }
static void bad_utf8(void) { say("{\"event\":\"log\",\"message\":\"\xff\xfe\xc0\x80\"}"); }
static void half(void) { frame(CONTROL, 0, 100, "{\"event\":", 9); usleep(300000); reboot(RB_POWER_OFF); }
static void panic(void) { fprintf(stderr, "the last words\n"); _exit(3); }
static void silent(void) { }

/* A start that fails, with a text as long as a frame can be, of what no terminal should see. */
static void ansi(void) {
    size_t length = snprintf(text, sizeof text, "{\"id\":%s,\"error\":{\"kind\":\"EngineError\",\"message\":\"\\u001b[31mred\\n\\u0007", answer_to);
    memset(text + length, 'x', 250000 - length);
    strcpy(text + 250000, "\"}}");
    say(text);
}

/* 1 GiB of it, as far as anybody reads. */
static void gibibyte(void) {
    frame(CONTROL, 0, 1 << 30, text, 0);
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 4096; i++)
        give(port, text, sizeof text);
}

/* Without waiting for the credit that the first 64 KiB give back: nobody reads the output of the test. */
static void beyond_credit(void) {
    ok("{\"pid\":10}");
    for (int i = 0; i < 256; i++)
        frame(DATA, output_stream, 32768, text, 32768);
}

static void flood_with(const char *document) {
    size_t size = sizeof(struct header) + strlen(document), filled = 0;
    struct header header = {CONTROL, 0, 0, strlen(document)};
    for (; filled + size <= sizeof text; filled += size) {
        memcpy(text + filled, &header, sizeof header);
        memcpy(text + filled + sizeof header, document, strlen(document));
    }
    for (long sent = 0; sent < count; sent += filled / size)
        give(port, text, filled);
}

static void empty_flood(void) { flood_with("{}"); }
static void hello_flood(void) { flood_with(HELLO); }
static void log_flood(void) { flood_with("{\"event\":\"log\"}"); honest(); }

static const struct {
    const char *name;
    void (*run)(void);
} CASES[] = {
    {"honest", honest}, {"length-zero", length_zero}, {"length-most", length_most}, {"unknown-id", unknown_id},
    {"long-code", long_code}, {"foreign-exit", foreign_exit}, {"foreign-oom", foreign_oom}, {"bad-utf8", bad_utf8},
    {"half", half}, {"panic", panic}, {"silent", silent}, {"ansi", ansi}, {"gibibyte", gibibyte},
    {"beyond-credit", beyond_credit}, {"empty-flood", empty_flood}, {"hello-flood", hello_flood},
    {"log-flood", log_flood},
};

static void take_request(void) {
    char operation[32], number[32];
    find("\"id\":", ",}", answer_to, sizeof answer_to);
    find("\"op\":\"", "\"", operation, sizeof operation);
    if (!strcmp(operation, "seed")) {
        ok("{\"version\":\"evil\",\"protocol\":1,\"boot_id\":\"\"}");
    } else if (!strcmp(operation, "create")) {
        find("\"container\":\"", "\"", container, sizeof container);
        find("\"args\":[\"evil\",\"", "\"", which, sizeof which);
        find("\"stdout\":", ",}", number, sizeof number);
        output_stream = atoi(number);
        find("\"EVIL_COUNT=", "\"", number, sizeof number);
        count = atol(number);
        ok("{\"pid\":10}");
    } else if (!strcmp(operation, "status")) {
        snprintf(number, sizeof number, "{\"status\":\"%s\"}", status);
        ok(number);
    } else if (!strcmp(operation, "start")) {
        status = "running";
        fprintf(stderr, "\033[31m%s\033]0;title\a\n", which);
        for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
            if (!strcmp(CASES[i].name, which))
                CASES[i].run();
    } else if (!strcmp(operation, "shutdown")) {
        reboot(RB_POWER_OFF);
    } else if (strcmp(which, "silent")) {
        ok("{}");
        if (!strcmp(operation, "signal") && strcmp(status, "stopped"))
            end_of(container, "137");
    }
}

int main(void) {
    struct header header;
    port = begin();
    for (;;) {
        take(port, &header, sizeof header);
        if (header.length >= sizeof request)
            reboot(RB_POWER_OFF);
        take(port, request, header.length);
        request[header.length] = 0;
        if (header.kind == CONTROL)
            take_request();
    }
}
