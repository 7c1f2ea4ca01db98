#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stamp.h"

enum { BUFFER = 4 << 20, READ_MOST = 1 << 20 };

static char buffer[BUFFER];
static int64_t read_at;

static void note(const char *what, const char *text, size_t size) {
    if (counts.fault[0]) return;
    int n = snprintf(counts.fault, sizeof counts.fault, "%s", what);
    for (size_t i = 0; i < size && n < 200; i++) {
        char c = text[i];
        counts.fault[n++] = c < 32 || c > 126 || c == '"' || c == '\\' ? ' ' : c;
    }
    counts.fault[n] = 0;
}

static void leave(struct client *c, const char *why, const char *text, size_t size) {
    if (c->phase == ENDED) return;
    if (c->phase != LIVE) {
        counts.failed++;
        counts.pending--;
    } else {
        counts.closed++;
    }
    note(why, text, size);
    c->phase = ENDED;
    close(c->fd);
}

/* The text with %KEY% and %CLIENT% of this client in it. */
static size_t filled(const char *text, const struct client *c, char *out) {
    size_t n = 0;
    while (*text) {
        if (!strncmp(text, "%KEY%", 5)) {
            n += (size_t)sprintf(out + n, "%06u", c->key);
            text += 5;
        } else if (!strncmp(text, "%CLIENT%", 8)) {
            n += (size_t)sprintf(out + n, "%u", c->number);
            text += 8;
        } else {
            out[n++] = *text++;
        }
    }
    return n;
}

static void say(struct client *c, int opcode, const char *text, size_t size) {
    char out[8192];
    if (size > sizeof out - WS_HEAD_MOST) size = sizeof out - WS_HEAD_MOST;
    size_t n = frame_write(out, opcode, text, size);
    if (send(c->fd, out, n, MSG_NOSIGNAL) < 0 && errno != EAGAIN) leave(c, "send failed", "", 0);
}

/* Each line of the hello as a message of its own. */
static void greet(struct client *c) {
    char text[4096];
    if (opt.hello == NULL) return;
    size_t n = filled(opt.hello, c, text);
    for (char *line = text, *end; line < text + n; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + n - line));
        if (end == NULL) end = text + n;
        if (end > line) say(c, WS_TEXT, line, (size_t)(end - line));
    }
}

static void lives(struct client *c) {
    if (c->phase == LIVE) return;
    c->phase = LIVE;
    counts.pending--;
    counts.live++;
    counts.all_live = now_ns();
    histogram_record(&to_live, counts.all_live - c->began);
    if (c->stalls) epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

static void count(struct client *c, const char *text, size_t size) {
    const char *end = text + size;
    struct stamp stamp;
    while ((text = stamp_find(text, end, &stamp))) {
        if (c->phase != LIVE && !opt.replay) continue; /* rows of a snapshot: another run's */
        if (tally_take(&tally, &c->receiver, stamp.id) != NEW || stamp.id < counts.from) continue;
        counts.counted++;
        counts.last_arrival = read_at;
        histogram_record(&latency, read_at - stamp.at);
    }
}

static bool has(const char *text, size_t size, const char *word) {
    return memmem(text, size, word, strlen(word)) != NULL;
}

/* What Centrifugo says before a stream is live: whether it is connected and subscribed. Over SSE
 * that is one push, and one that names no subscription will never be followed by an event. */
static void welcome(struct client *c, const char *text, size_t size) {
    if (has(text, size, opt.sse ? "\"subs\":{" : "\"subscribe\":{")) lives(c);
    else if (opt.sse || has(text, size, "\"error\"")) leave(c, "refused: ", text, size);
}

/* Centrifugo puts what waits into one message, a line each. An empty one is a ping, which it wants
 * answered whatever it came with. */
static void hear_lines(struct client *c, const char *text, size_t size) {
    const char *end = text + size;
    for (const char *line = text, *stop; line < end && c->phase != ENDED; line = stop + 1) {
        stop = memchr(line, '\n', (size_t)(end - line));
        if (stop == NULL) stop = end;
        size_t length = (size_t)(stop - line);
        if (length == 2 && line[0] == '{') say(c, WS_TEXT, "{}", 2);
        else if (c->phase == OPEN) welcome(c, line, length);
        count(c, line, length);
    }
}

/* One WebSocket message. */
static void hear(struct client *c, const char *text, size_t size) {
    switch (opt.dialect) {
        case TELECAST:
            if (size > 16 && !memcmp(text, "{\"type\":\"event\"", 15)) break;
            if (has(text, size < 64 ? size : 64, "\"type\":\"live\"")) lives(c);
            else if (has(text, size < 64 ? size : 64, "\"type\":\"gap\"")) counts.left_out++;
            else if (has(text, size < 64 ? size : 64, "\"type\":\"conflated\"")) counts.left_out++;
            else if (has(text, size < 64 ? size : 64, "\"type\":\"error\"")) note("", text, size);
            return;
        case SOCKETIO: /* engine.io 4: 0 open, 2 ping, 3 pong, 4 message; socket.io 5: 40, 42 */
            if (size && text[0] == '0') say(c, WS_TEXT, "40", 2);
            else if (size && text[0] == '2') say(c, WS_TEXT, "3", 1);
            else if (size > 1 && text[0] == '4' && text[1] == '0') {
                greet(c);
                lives(c);
            }
            break;
        case CENTRIFUGO:
            hear_lines(c, text, size);
            return;
        case PLAIN:
            break;
    }
    count(c, text, size);
}

/* Takes whole frames; gives how many bytes it took. */
static size_t take_frames(struct client *c, const char *raw, size_t size) {
    size_t used = 0;
    struct frame f;
    int got;
    while (c->phase != ENDED && (got = frame_read(raw + used, size - used, &f))) {
        if (got < 0) {
            leave(c, "bad frame", "", 0);
            return size;
        }
        used += f.whole;
        if (f.opcode == WS_PING) say(c, WS_PONG, f.payload, f.size);
        else if (f.opcode == WS_CLOSE) leave(c, "closed by the server: ", f.payload, f.size);
        else if (f.opcode <= WS_BINARY) {
            if (!f.fin || f.opcode == 0) counts.fragments++;
            hear(c, f.payload, f.size);
        }
    }
    return used;
}

/* Takes whole lines of an event stream (WHATWG HTML section 9.2.6); gives how many bytes. */
static size_t take_lines(struct client *c, const char *raw, size_t size) {
    size_t used = 0;
    const char *end;
    while (c->phase != ENDED && (end = memchr(raw + used, '\n', size - used))) {
        const char *line = raw + used;
        size_t length = (size_t)(end - line);
        used += length + 1;
        if (length > 5 && !memcmp(line, "data:", 5)) {
            if (opt.dialect == CENTRIFUGO && c->phase == OPEN) welcome(c, line + 5, length - 5);
            count(c, line + 5, length - 5);
        } else if (opt.dialect == TELECAST && length > 10 && !memcmp(line, "event: ", 7)) {
            if (length == 11 && !memcmp(line + 7, "live", 4)) lives(c);
            if (length == 10 && !memcmp(line + 7, "gap", 3)) counts.left_out++;
            if (length == 16 && !memcmp(line + 7, "conflated", 9)) counts.left_out++;
        }
    }
    return used;
}

/* The answer to the handshake; gives how many bytes it took, 0 where it is not whole. */
static size_t take_head(struct client *c, const char *raw, size_t size) {
    struct head head;
    int got = head_read(raw, size, &head);
    if (got == 0) return 0;
    if (got < 0 || head.status != (opt.sse ? 200 : 101)) {
        leave(c, "refused: ", raw, size);
        return size;
    }
    c->phase = OPEN;
    c->chunked = head.chunked;
    if (!opt.sse && opt.dialect != SOCKETIO) greet(c);
    if (opt.dialect == PLAIN) lives(c);
    return head.size;
}

static void hold(struct client *c, const char *raw, size_t size) {
    if (size == 0) {
        c->held_size = 0;
        return;
    }
    if (size > BUFFER - READ_MOST) {
        leave(c, "a message longer than the buffer", "", 0);
        return;
    }
    if (size > c->held_size || c->held == NULL) c->held = realloc(c->held, size);
    memcpy(c->held, raw, size);
    c->held_size = size;
}

/* One read, of all that has come where it is short. False where there is no more now. */
static bool take(struct client *c) {
    /* What is held was taken out of its chunks already, so only new bytes go through that. */
    size_t old = c->held_size;
    if (old) memcpy(buffer, c->held, old);
    ssize_t got = read(c->fd, buffer + old, READ_MOST);
    if (got < 0 && errno == EAGAIN) return false;
    if (got <= 0) {
        leave(c, got ? strerror(errno) : "ended by the server", "", 0);
        return false;
    }
    counts.reads++;
    counts.bytes += (uint64_t)got;
    read_at = now_ns();
    size_t size = old + (size_t)got, used = 0;
    if (c->phase == HEAD) {
        used = take_head(c, buffer, size);
        if (used == 0 || c->phase == ENDED) {
            if (c->phase != ENDED) hold(c, buffer, size);
            return c->phase != ENDED && got == READ_MOST;
        }
        old = used;
    }
    if (c->chunked) {
        size_t taken;
        long data = chunks_decode(&c->chunks, buffer + old, size - old, &taken);
        if (data < 0 || c->chunks.over) {
            leave(c, data < 0 ? "bad chunk" : "the stream was ended by the server", "", 0);
            return false;
        }
        size = old + (size_t)data;
    }
    used += opt.sse ? take_lines(c, buffer + used, size - used)
                    : take_frames(c, buffer + used, size - used);
    if (c->phase != ENDED) hold(c, buffer + used, size - used);
    return c->phase != ENDED && got == READ_MOST;
}

void client_receive(struct client *c, bool ended) {
    while (take(c) || (ended && c->phase != ENDED)) {
        if (c->stalls && c->phase == LIVE) return;
    }
}

void client_open(struct client *c) {
    c->began = now_ns();
    c->phase = CONNECTING;
    counts.pending++;
    c->fd = connect_loopback(opt.port, c->stalls);
    if (c->fd < 0) {
        leave(c, "connect: ", strerror(errno), strlen(strerror(errno)));
        return;
    }
    /* Reset at the end: thousands of sockets in TIME_WAIT would be the next run's trouble. */
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
}

void client_ask(struct client *c) {
    char text[8192];
    int failure = 0;
    socklen_t size = sizeof failure;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure) {
        leave(c, "connect: ", strerror(failure), strlen(strerror(failure)));
        return;
    }
    size_t n = filled(opt.request, c, text);
    if (send(c->fd, text, n, MSG_NOSIGNAL) != (ssize_t)n) {
        leave(c, "send failed", "", 0);
        return;
    }
    c->phase = HEAD;
    /* Told once for what has come: a short read has it all, and spares asking again. */
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

