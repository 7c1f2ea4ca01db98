/* N subscribers on one thread: connects, subscribes, answers pings, counts every event of every
 * subscriber and takes its latency from the event's own stamp.
 *
 * It takes commands on stdin, a line each, and writes JSON lines on stdout:
 *   (by itself)   {"ready":..}   all are connected and live, or have failed
 *   mark ID       {"marked":..}  what counts begins with this id; CPU and latencies start at 0
 *   end ID        the report, once all ids below ID have come to all, or nothing came for --grace
 *                 seconds, or --deadline seconds have passed: `overdue` are what was to come then
 *   quit          closes all and ends
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"
#include "stamp.h"

struct options opt = {.window = 128, .grace = 2.0, .deadline = 30.0, .keys = 1};
struct counts counts;
struct tally tally = {.stride = 1};
struct histogram latency, to_live;
int epoll;

static struct client *clients;
static int opened;
static uint64_t until, wanted;
static bool ending, ready;
static int64_t started, marked, asked_to_end;
static struct rusage usage;

static void open_more(void) {
    while (opened < opt.clients && counts.pending < opt.window) {
        if (opt.ramp > 0 && opened > opt.ramp * (double)(now_ns() - started) / 1e9) return;
        client_open(&clients[opened++]);
    }
}

static double seconds(struct timeval now, struct timeval then) {
    return (double)(now.tv_sec - then.tv_sec) + (double)(now.tv_usec - then.tv_usec) / 1e6;
}

static void print_ready(void) {
    ready = true;
    printf("{\"ready\":%d,\"failed\":%d,\"fault\":\"%s\",\"seconds\":%.6f,\"to_live\":",
           counts.live, counts.failed, counts.fault, (double)(counts.all_live - started) / 1e9);
    histogram_print(stdout, &to_live);
    printf("}\n");
    fflush(stdout);
}

static void mark(uint64_t id) {
    counts.from = id;
    counts.counted = counts.reads = counts.bytes = 0;
    memset(&latency, 0, sizeof latency);
    getrusage(RUSAGE_SELF, &usage);
    marked = counts.last_arrival = now_ns();
    printf("{\"marked\":%" PRIu64 "}\n", id);
    fflush(stdout);
}

static void end_at(uint64_t id) {
    ending = true;
    asked_to_end = now_ns();
    until = id;
    wanted = 0;
    if (counts.last_arrival < now_ns() - (int64_t)(opt.grace * 1e9)) counts.last_arrival = now_ns();
    for (int i = 0; i < opt.clients; i++) {
        if (clients[i].stalls) continue;
        wanted += receiver_expects(&clients[i].receiver, &tally, counts.from, until);
    }
}

/* By the clients' own ports: to whom the server has a connection open. Who does not read is not
 * told of its end, which waits behind what is unread. */
static const bool *open_at_server(void) {
    static bool open[65536];
    const char *tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    memset(open, 0, sizeof open);
    for (int i = 0; i < 2; i++) {
        FILE *table = fopen(tables[i], "r");
        char line[512];
        unsigned local, remote, state;
        while (table && fgets(line, sizeof line, table)) {
            if (sscanf(line, "%*s %*[^:]:%x %*[^:]:%x %x", &local, &remote, &state) == 3 &&
                local == (unsigned)opt.port && state == TCP_ESTABLISHED) open[remote] = true;
        }
        if (table) fclose(table);
    }
    return open;
}

static int port_of(int fd) {
    struct sockaddr_in own = {0};
    socklen_t size = sizeof own;
    getsockname(fd, (struct sockaddr *)&own, &size);
    return ntohs(own.sin_port);
}

static void report(bool late) {
    struct rusage now;
    const bool *open = opt.stalled ? open_at_server() : NULL;
    uint64_t lost = 0, worst = 0;
    int cut_off = 0;
    getrusage(RUSAGE_SELF, &now);
    for (int i = 0; i < opt.clients; i++) {
        struct receiver *r = &clients[i].receiver;
        if (clients[i].stalls) {
            cut_off += clients[i].phase == LIVE && !open[port_of(clients[i].fd)];
            continue;
        }
        uint64_t missing = receiver_expects(r, &tally, tally.first, until) -
                           receiver_has(r, &tally, tally.first, until);
        lost += missing;
        if (missing > worst) worst = missing;
    }
    printf("{\"clients\":%d,\"live\":%d,\"failed\":%d,\"closed\":%d,\"cut_off\":%d,"
           "\"fault\":\"%s\","
           "\"expected\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRIu64
           ",\"overdue\":%" PRIu64 ",\"worst\":%" PRIu64 ",\"duplicates\":%" PRIu64
           ",\"out_of_order\":%" PRIu64
           ",\"unknown\":%" PRIu64 ",\"fragments\":%" PRIu64 ",\"told_left_out\":%" PRIu64
           ",\"bytes\":%" PRIu64 ",\"reads\":%" PRIu64
           ",\"seconds\":%.6f,\"arriving\":%.6f,\"cpu_user\":%.4f,\"cpu_sys\":%.4f,\"latency\":",
           opt.clients, counts.live, counts.failed, counts.closed, cut_off, counts.fault, wanted,
           counts.counted, late ? 0 : lost, late ? lost : 0, worst, tally.duplicates,
           tally.out_of_order, tally.unknown, counts.fragments, counts.left_out, counts.bytes,
           counts.reads,
           (double)(now_ns() - marked) / 1e9, (double)(counts.last_arrival - marked) / 1e9,
           seconds(now.ru_utime, usage.ru_utime), seconds(now.ru_stime, usage.ru_stime));
    histogram_print(stdout, &latency);
    printf("}\n");
    fflush(stdout);
    ending = false;
}

/* False where it is over. */
static bool obey(void) {
    static char lines[4096];
    static size_t size;
    ssize_t got = read(0, lines + size, sizeof lines - 1 - size);
    if (got <= 0) return got < 0 && errno == EINTR;
    size += (size_t)got;
    char *end;
    while ((end = memchr(lines, '\n', size))) {
        *end = 0;
        if (!strncmp(lines, "mark ", 5)) mark(strtoull(lines + 5, NULL, 10));
        else if (!strncmp(lines, "end ", 4)) end_at(strtoull(lines + 4, NULL, 10));
        else return false;
        size -= (size_t)(end + 1 - lines);
        memmove(lines, end + 1, size);
    }
    return true;
}

static void usage_and_exit(const char *word) {
    fprintf(stderr, "subscribers: bad option %s\n", word);
    exit(2);
}

static void options(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(name, "--port")) opt.port = atoi(value);
        else if (!strcmp(name, "--clients")) opt.clients = atoi(value);
        else if (!strcmp(name, "--stalled")) opt.stalled = atoi(value);
        else if (!strcmp(name, "--keys")) opt.keys = atoi(value);
        else if (!strcmp(name, "--filtered")) opt.filtered = atoi(value);
        else if (!strcmp(name, "--replay")) opt.replay = atoi(value);
        else if (!strcmp(name, "--window")) opt.window = atoi(value);
        else if (!strcmp(name, "--ramp")) opt.ramp = atof(value);
        else if (!strcmp(name, "--grace")) opt.grace = atof(value);
        else if (!strcmp(name, "--deadline")) opt.deadline = atof(value);
        else if (!strcmp(name, "--first")) tally.first = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--room")) tally.room = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--request")) opt.request = file_read(value, NULL);
        else if (!strcmp(name, "--hello")) opt.hello = file_read(value, NULL);
        else if (!strcmp(name, "--transport")) opt.sse = !strcmp(value, "sse");
        else if (!strcmp(name, "--dialect")) {
            const char *names[] = {"plain", "telecast", "socketio", "centrifugo"};
            int n = 0;
            while (n < 4 && strcmp(value, names[n])) n++;
            if (n == 4) usage_and_exit(value);
            opt.dialect = (enum dialect)n;
        } else usage_and_exit(name);
    }
    if (!opt.port || opt.clients < 1 || !opt.request || opt.keys < 1 || !tally.room)
        usage_and_exit("(--port --clients --request --room are needed)");
    if (opt.filtered) tally.stride = (uint64_t)opt.keys;
}

int main(int argc, char **argv) {
    options(argc, argv);
    clients = calloc((size_t)opt.clients, sizeof *clients);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; clients && i < opt.clients; i++) {
        struct client *c = &clients[i];
        c->number = (uint32_t)i;
        /* Keys in no order, the same in every run (Knuth's multiplicative hash). */
        c->key = (uint32_t)((uint64_t)(i * 2654435761u) * (uint64_t)opt.keys >> 32);
        /* Every so many-th one, so that they do not stand together in the server's lists. */
        int64_t before = (int64_t)i * opt.stalled / opt.clients;
        c->stalls = (int64_t)(i + 1) * opt.stalled / opt.clients > before;
        if (!receiver_init(&c->receiver, &tally, c->key)) return 2;
    }
    struct epoll_event events[256], in = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &in);
    started = counts.last_arrival = now_ns();
    getrusage(RUSAGE_SELF, &usage);
    for (;;) {
        open_more();
        int n = epoll_wait(epoll, events, 256, opened < opt.clients ? 1 : ending ? 20 : 200);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (c == NULL) {
                if (!obey()) return 0;
            } else if (c->phase == CONNECTING) {
                client_ask(c);
            } else if (c->phase != ENDED) {
                client_receive(c, events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            }
        }
        if (!ready && opened == opt.clients && counts.pending == 0) print_ready();
        if (!ending) continue;
        int64_t now = now_ns();
        bool silent = now - counts.last_arrival > (int64_t)(opt.grace * 1e9);
        if (counts.counted >= wanted || silent) report(false);
        else if (now - asked_to_end > (int64_t)(opt.deadline * 1e9)) report(true);
    }
}
