/* The least that a fan-out server can do: every event is given to each of N sockets by one send().
 *
 * No validation, no journal, no routing, no buffers of its own. A connection that asks for /publish
 * sends payloads, a line each; any other is a subscriber over the transport named on the command line. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKETS = 65536, LINE_MOST = 1 << 20 };

static int subscribers[SOCKETS], count;
static bool sse, publisher[SOCKETS], known[SOCKETS];
static char line[LINE_MOST], block[LINE_MOST + 64];
static size_t held;

static void broadcast(const char *text, size_t size) {
    size_t n = 0;
    if (sse) {
        n = (size_t)sprintf(block, "%zx\r\ndata: ", size + 8);
        memcpy(block + n, text, size);
        n += size;
        memcpy(block + n, "\n\n\r\n", 4);
        n += 4;
    } else {
        block[n++] = (char)0x81;
        if (size < 126) {
            block[n++] = (char)size;
        } else {
            block[n++] = 126; /* what the bench sends is shorter than 64 KiB */
            block[n++] = (char)(size >> 8);
            block[n++] = (char)size;
        }
        memcpy(block + n, text, size);
        n += size;
    }
    /* What a socket has no room for is lost: to wait for one would be an effect on all others. */
    for (int i = 0; i < count; i++) send(subscribers[i], block, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Broadcasts the whole lines of what is held. */
static void take_lines(void) {
    size_t used = 0;
    char *end;
    while ((end = memchr(line + used, '\n', held - used))) {
        broadcast(line + used, (size_t)(end - line) - used);
        used = (size_t)(end - line) + 1;
    }
    held -= used;
    memmove(line, line + used, held);
}

static void receive(int fd) {
    ssize_t got = read(fd, line + held, sizeof line - held);
    if (got <= 0) {
        close(fd);
        known[fd] = publisher[fd] = false;
        return;
    }
    held += (size_t)got;
    take_lines();
}

static void greet(int fd) {
    /* The key is the RFC's own example (6455 section 1.3), which is what our load sends. */
    static const char ws[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        "Transfer-Encoding: chunked\r\n\r\n";
    char head[4096];
    ssize_t got = read(fd, head, sizeof head - 1);
    if (got <= 0) {
        close(fd);
        return;
    }
    head[got] = 0;
    known[fd] = true;
    if (strstr(head, " /publish ")) {
        publisher[fd] = true;
        char *rest = strstr(head, "\r\n\r\n");
        held = rest ? (size_t)(head + got - rest) - 4 : 0;
        if (held) memcpy(line, rest + 4, held);
        take_lines();
        return;
    }
    send(fd, sse ? stream : ws, sse ? sizeof stream - 1 : sizeof ws - 1, MSG_NOSIGNAL);
    subscribers[count++] = fd;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    sse = !strcmp(argv[2], "sse");
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, poll = epoll_create1(0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept(listener, NULL, NULL);
                if (fd < 0 || fd >= SOCKETS) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                e.data.fd = fd;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
            } else if (publisher[fd]) {
                receive(fd);
            } else if (!known[fd]) {
                greet(fd);
            } else {
                char nothing[4096];
                if (read(fd, nothing, sizeof nothing) > 0) continue;
                for (int j = 0; j < count; j++) {
                    if (subscribers[j] == fd) subscribers[j] = subscribers[--count];
                }
                known[fd] = false;
                close(fd);
            }
        }
    }
}
