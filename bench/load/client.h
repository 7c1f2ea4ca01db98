/* One subscriber: its handshake, what it reads and answers, in the tongue of its server. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "tally.h"
#include "wire.h"

enum dialect { PLAIN, TELECAST, SOCKETIO, CENTRIFUGO };
enum phase { WAITING, CONNECTING, HEAD, OPEN, LIVE, ENDED };

struct client {
    int fd;
    enum phase phase;
    bool stalls, chunked;
    uint32_t number, key;
    char *held; /* bytes of a message that has not come whole */
    size_t held_size;
    struct chunks chunks;
    struct receiver receiver;
    int64_t began;
};

struct options {
    int port, clients, stalled, keys, window;
    bool sse, filtered, replay;
    double ramp, grace, deadline;
    enum dialect dialect;
    char *request, *hello;
};

/* What all subscribers together have come to. Only ids not below `from` count. */
struct counts {
    int pending, live, failed, closed;
    uint64_t from, counted, reads, bytes, fragments, left_out;
    int64_t last_arrival, all_live;
    char fault[256]; /* the first */
};

extern struct options opt;
extern struct counts counts;
extern struct tally tally;
extern struct histogram latency, to_live;
extern int epoll;

/* Begins to connect. */
void client_open(struct client *c);

/* Its socket is connected, or failed to be: asks for the stream. */
void client_ask(struct client *c);

/* Its socket has something to read; `ended`: and nothing will come after it. */
void client_receive(struct client *c, bool ended);

#endif
