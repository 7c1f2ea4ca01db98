/* Publishes stamped events by the clock, in the way that a peer's publishers do.
 *
 * With --rate it is an open loop: event i is due at start + i / rate whatever the server does, it
 * carries the time at which it was really handed over, and how late that was is reported. With
 * --rate 0 it is a closed loop: each connection sends its next batch when the last was answered.
 *
 * A template is a payload with places of fixed width: %STAMP% and %KEY% (6 digits, id modulo keys).
 * Several take turns. Says one JSON line when all is sent and answered, then waits for stdin's end,
 * so that no server loses what it has not read yet. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "histogram.h"
#include "stamp.h"
#include "wire.h"

enum kind { WS, HTTP, LINES };
enum { TEMPLATES = 8, CONNECTIONS = 256, IN_FLIGHT = 65536, READ_MOST = 65536 };

struct template {
    char *text;
    size_t size, stamp, key; /* where; key 0: there is none */
};

struct connection {
    int fd;
    bool open, engine; /* handshake done; a Socket.IO connection that is not open yet */
    char *out, in[READ_MOST * 2];
    size_t out_from, out_size, out_room, in_size;
    size_t skip; /* of a response's body */
    bool chunked;
    struct chunks chunks;
    uint64_t asked, answered;
    int64_t sent_at[IN_FLIGHT];
    uint32_t events[IN_FLIGHT]; /* in the request that was sent then */
};

static struct {
    enum kind kind;
    int port, connections;
    bool socketio;
    double rate, seconds;
    uint64_t count, first, keys, batch, wait_ms;
    char *request, *hello;
} opt = {.connections = 1, .keys = 1, .batch = 1, .count = UINT64_MAX, .seconds = 1e9};

static struct template templates[TEMPLATES];
static int template_count;
static struct connection *connections;
static struct histogram lateness, acknowledged;
static uint64_t sent, answered_events, refused;
static char fault[256];

static void fail(const char *what) {
    fprintf(stderr, "publisher: %s\n", what);
    exit(1);
}

static void note(const char *text, size_t size) {
    refused++;
    if (fault[0]) return;
    for (size_t i = 0; i < size && i < sizeof fault - 1; i++) {
        char c = text[i];
        fault[i] = c < 32 || c > 126 || c == '"' || c == '\\' ? ' ' : c;
    }
}

static void add_template(const char *path) {
    struct template *t = &templates[template_count++];
    char *raw = file_read(path, &t->size), *at;
    t->text = malloc(t->size + 64);
    strcpy(t->text, raw);
    while (t->size && t->text[t->size - 1] == '\n') t->text[--t->size] = 0;
    if ((at = strstr(t->text, "%KEY%"))) {
        memmove(at + 6, at + 5, strlen(at + 5) + 1);
        t->size++;
        t->key = (size_t)(at - t->text);
    }
    if ((at = strstr(t->text, "%STAMP%")) == NULL) fail("a template without %STAMP%");
    memmove(at + STAMP_SIZE, at + 7, strlen(at + 7) + 1);
    t->size += STAMP_SIZE - 7;
    t->stamp = (size_t)(at - t->text);
    if (t->key > t->stamp) t->key += STAMP_SIZE - 7;
}

static struct template *next_event(uint64_t id, int64_t at) {
    struct template *t = &templates[id % (uint64_t)template_count];
    stamp_write(t->text + t->stamp, id, at);
    if (t->key) digits_write(t->text + t->key, 6, id % opt.keys);
    return t;
}

static char *room(struct connection *c, size_t size) {
    if (c->out_size + size > c->out_room) {
        if (c->out_from > c->out_room / 2) {
            memmove(c->out, c->out + c->out_from, c->out_size - c->out_from);
            c->out_size -= c->out_from;
            c->out_from = 0;
        }
        if (c->out_size + size > c->out_room) {
            c->out_room = 2 * c->out_room + size;
            c->out = realloc(c->out, c->out_room);
            if (c->out == NULL) fail("no memory");
        }
    }
    return c->out + c->out_size;
}

static void put(struct connection *c, const char *bytes, size_t size) {
    memcpy(room(c, size), bytes, size);
    c->out_size += size;
}

static void put_message(struct connection *c, const char *text, size_t size) {
    c->out_size += frame_write(room(c, size + WS_HEAD_MOST), WS_TEXT, text, size);
}

/* Hands over the next `n` events. */
static void publish(struct connection *c, uint64_t n) {
    int64_t at = now_ns();
    if (opt.kind == HTTP) {
        static char body[16 << 20];
        size_t size = 0;
        for (uint64_t i = 0; i < n; i++) {
            struct template *t = next_event(opt.first + sent++, at);
            if (size + t->size + 1 > sizeof body) fail("the batch is too long");
            memcpy(body + size, t->text, t->size);
            size += t->size;
            if (opt.batch > 1) body[size++] = '\n';
        }
        char head[4096];
        int length =
            snprintf(head, sizeof head, "%sContent-Length: %zu\r\n\r\n", opt.request, size);
        put(c, head, (size_t)length);
        put(c, body, size);
        c->events[c->asked % IN_FLIGHT] = (uint32_t)n;
        c->sent_at[c->asked++ % IN_FLIGHT] = at;
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        struct template *t = next_event(opt.first + sent++, at);
        if (opt.kind == WS) {
            put_message(c, t->text, t->size);
        } else {
            put(c, t->text, t->size);
            put(c, "\n", 1);
        }
    }
}

static void flush(struct connection *c) {
    while (c->out_from < c->out_size) {
        ssize_t n = send(c->fd, c->out + c->out_from, c->out_size - c->out_from, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            fail(fault[0] ? fault : "the server closed the publisher's connection");
        }
        c->out_from += (size_t)n;
    }
    c->out_from = c->out_size = 0;
}

static void greet(struct connection *c) {
    for (char *line = opt.hello; line && *line;) {
        size_t n = strcspn(line, "\n");
        if (n) put_message(c, line, n);
        line += n + (line[n] == '\n');
    }
    c->open = true;
}

static void hear(struct connection *c, const char *text, size_t size) {
    if (opt.socketio) {
        if (size && text[0] == '0') put_message(c, "40", 2);
        else if (size && text[0] == '2') put_message(c, "3", 1);
        else if (size > 1 && text[0] == '4' && text[1] == '0') greet(c);
        return;
    }
    if (size == 2 && text[0] == '{') put_message(c, "{}", 2); /* Centrifugo's ping */
    /* An event, or a push, of the connection's own subscriptions is none of ours to judge. */
    if (memmem(text, size < 120 ? size : 120, "\"error\"", 7)) note(text, size);
}

static size_t take_frames(struct connection *c) {
    size_t used = 0;
    struct frame f;
    int got;
    while ((got = frame_read(c->in + used, c->in_size - used, &f)) > 0) {
        used += f.whole;
        if (f.opcode == WS_PING) {
            char pong[256];
            size_t n = f.size < 126 ? f.size : 125;
            put(c, pong, frame_write(pong, WS_PONG, f.payload, n));
        } else if (f.opcode == WS_CLOSE) {
            note(f.payload, f.size);
            fail(fault);
        } else {
            hear(c, f.payload, f.size);
        }
    }
    if (got < 0) fail("bad frame");
    return used;
}

static size_t take_answers(struct connection *c) {
    size_t used = 0;
    for (;;) {
        if (c->chunked) {
            size_t taken;
            if (chunks_decode(&c->chunks, c->in + used, c->in_size - used, &taken) < 0) {
                fail("bad chunk");
            }
            used += taken;
            if (!c->chunks.over) return used;
            c->chunked = false;
        }
        size_t part = c->skip < c->in_size - used ? c->skip : c->in_size - used;
        used += part;
        c->skip -= part;
        if (c->skip) return used;
        struct head head;
        int got = head_read(c->in + used, c->in_size - used, &head);
        if (got < 0) fail("that is no HTTP response");
        if (got == 0) return used;
        if (head.status >= 300) note(c->in + used, c->in_size - used);
        else answered_events += c->events[c->answered % IN_FLIGHT];
        used += head.size;
        histogram_record(&acknowledged, now_ns() - c->sent_at[c->answered++ % IN_FLIGHT]);
        c->skip = head.length > 0 ? (size_t)head.length : 0;
        c->chunked = head.chunked;
        c->chunks = (struct chunks){0};
    }
}

static void receive(struct connection *c) {
    ssize_t got = read(c->fd, c->in + c->in_size, sizeof c->in - c->in_size);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail(fault[0] ? fault : "the server closed the publisher's connection");
    c->in_size += (size_t)got;
    size_t used = 0;
    if (!c->open && opt.kind == WS && !c->engine) {
        struct head head;
        int whole = head_read(c->in, c->in_size, &head);
        if (whole == 0) return;
        if (whole < 0 || head.status != 101) {
            note(c->in, c->in_size);
            fail(fault);
        }
        used = head.size;
        c->in_size -= used;
        memmove(c->in, c->in + used, c->in_size);
        if (opt.socketio) c->engine = true;
        else greet(c);
    }
    used = opt.kind == WS ? take_frames(c) : opt.kind == HTTP ? take_answers(c) : c->in_size;
    c->in_size -= used;
    memmove(c->in, c->in + used, c->in_size);
}

/* Waits until `until` (ns) at most, moving what can be moved. */
static void wait_for(int64_t until, bool read_only_once) {
    struct pollfd polled[CONNECTIONS];
    do {
        int64_t left = until - now_ns();
        for (int i = 0; i < opt.connections; i++) {
            flush(&connections[i]);
            bool full = connections[i].out_from < connections[i].out_size;
            polled[i] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
            if (full) polled[i].events |= POLLOUT;
        }
        struct timespec time = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
        if (ppoll(polled, (nfds_t)opt.connections, &time, NULL) > 0) {
            for (int i = 0; i < opt.connections; i++) {
                if (polled[i].revents) receive(&connections[i]);
            }
            if (read_only_once) return;
        }
    } while (now_ns() < until);
}

static bool all(bool (*is)(const struct connection *)) {
    for (int i = 0; i < opt.connections; i++) {
        if (!is(&connections[i])) return false;
    }
    return true;
}

static bool is_open(const struct connection *c) { return c->open; }
static bool is_done(const struct connection *c) {
    return c->out_from == c->out_size && (opt.kind != HTTP || c->answered == c->asked);
}

static void open_loop(int64_t start) {
    double step = 1e9 / opt.rate * (double)opt.batch;
    for (uint64_t i = 0; sent < opt.count; i++) {
        int64_t due = start + (int64_t)(step * (double)i);
        if (now_ns() < due) wait_for(due, false);
        histogram_record(&lateness, now_ns() - due);
        uint64_t n = opt.count - sent < opt.batch ? opt.count - sent : opt.batch;
        publish(&connections[i % (uint64_t)opt.connections], n);
        /* A run of late ones goes out together, as it would from a real publisher's socket. */
        if (now_ns() < due + (int64_t)step) {
            for (int j = 0; j < opt.connections; j++) flush(&connections[j]);
        } else if (i % 64 == 0) {
            wait_for(0, true);
        }
    }
}

static void closed_loop(int64_t start) {
    int64_t until = start + (int64_t)(opt.seconds * 1e9);
    while (now_ns() < until && sent < opt.count) {
        for (int i = 0; i < opt.connections; i++) {
            if (is_done(&connections[i]) && sent < opt.count) publish(&connections[i], opt.batch);
        }
        wait_for(until, true);
    }
}

static void options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--port")) opt.port = atoi(value);
        else if (!strcmp(name, "--kind"))
            opt.kind = value[0] == 'w' ? WS : value[0] == 'h' ? HTTP : LINES;
        else if (!strcmp(name, "--socketio")) opt.socketio = atoi(value);
        else if (!strcmp(name, "--connections")) opt.connections = atoi(value);
        else if (!strcmp(name, "--rate")) opt.rate = atof(value);
        else if (!strcmp(name, "--seconds")) opt.seconds = atof(value);
        else if (!strcmp(name, "--count")) opt.count = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--first")) opt.first = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--keys")) opt.keys = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--batch")) opt.batch = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--request")) opt.request = file_read(value, NULL);
        else if (!strcmp(name, "--hello")) opt.hello = file_read(value, NULL);
        else if (!strcmp(name, "--template") && template_count < TEMPLATES) add_template(value);
        else fail(name);
    }
    if (!opt.port || !opt.request || !template_count || opt.connections > CONNECTIONS)
        fail("--port --request --template are needed");
}

int main(int argc, char **argv) {
    options(argc, argv);
    /* Wake at the due time, not 50 microseconds later. */
    prctl(PR_SET_TIMERSLACK, 1000ul);
    connections = calloc((size_t)opt.connections, sizeof *connections);
    if (connections == NULL) fail("no memory");
    for (int i = 0; i < opt.connections; i++) {
        struct connection *c = &connections[i];
        if ((c->fd = connect_loopback(opt.port, false)) < 0) fail("can't connect");
        struct pollfd writable = {c->fd, POLLOUT, 0};
        poll(&writable, 1, 5000);
        c->open = opt.kind != WS;
        if (opt.kind != HTTP) put(c, opt.request, strlen(opt.request));
    }
    int64_t patience = now_ns() + 10000000000;
    while (!all(is_open)) {
        if (now_ns() > patience) fail("no handshake within 10 s");
        wait_for(now_ns() + 10000000, true);
    }
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    int64_t start = now_ns();
    if (opt.rate > 0) open_loop(start);
    else closed_loop(start);
    int64_t told = now_ns();
    while (!all(is_done) && now_ns() - told < 30000000000) wait_for(now_ns() + 10000000, true);
    int64_t over = now_ns();
    wait_for(now_ns() + 1000000, true);
    getrusage(RUSAGE_SELF, &after);
    printf("{\"sent\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"refused\":%" PRIu64
           ",\"fault\":\"%s\",\"seconds\":%.6f,\"cpu\":%.4f,\"lateness\":",
           sent, answered_events, refused, fault, (double)(over - start) / 1e9,
           (double)(after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec -
                    before.ru_stime.tv_sec) +
               (double)(after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec -
                        before.ru_stime.tv_usec) / 1e6);
    histogram_print(stdout, &lateness);
    printf(",\"acknowledged\":");
    histogram_print(stdout, &acknowledged);
    printf("}\n");
    fflush(stdout);
    for (;;) { /* the server may still be telling us things: read them until stdin ends */
        struct pollfd in = {0, POLLIN, 0};
        char nothing[64];
        if (poll(&in, 1, 0) > 0 && read(0, nothing, sizeof nothing) <= 0) return 0;
        wait_for(now_ns() + 20000000, true);
    }
}
