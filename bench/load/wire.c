#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

int frame_read(const char *bytes, size_t size, struct frame *out) {
    const unsigned char *b = (const unsigned char *)bytes;
    if (size < 2) return 0;
    if ((b[0] & 0x70) || (b[1] & 0x80)) return -1;
    size_t length = b[1], head = 2;
    if (length >= 126) {
        head = length == 126 ? 4 : 10;
        if (size < head) return 0;
        length = 0;
        for (size_t i = 2; i < head; i++) length = length << 8 | b[i];
    }
    if (length > WS_MESSAGE_MOST) return -1;
    if (size < head + length) return 0;
    out->fin = b[0] & 0x80;
    out->opcode = b[0] & 0x0f;
    out->payload = bytes + head;
    out->size = length;
    out->whole = head + length;
    return 1;
}

size_t frame_write(char *out, int opcode, const char *payload, size_t size) {
    /* A client that attacks no proxy may use one key for all: the server unmasks all the same. */
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char *o = (unsigned char *)out;
    size_t n = 0;
    o[n++] = (unsigned char)(0x80 | opcode);
    if (size < 126) {
        o[n++] = (unsigned char)(0x80 | size);
    } else if (size < 65536) {
        o[n++] = 0x80 | 126;
        o[n++] = (unsigned char)(size >> 8);
        o[n++] = (unsigned char)size;
    } else {
        o[n++] = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) {
            o[n++] = (unsigned char)((uint64_t)size >> shift);
        }
    }
    memcpy(o + n, mask, 4);
    n += 4;
    for (size_t i = 0; i < size; i++) o[n++] = (unsigned char)payload[i] ^ mask[i & 3];
    return n;
}

int head_read(const char *bytes, size_t size, struct head *out) {
    const char *end = memmem(bytes, size, "\r\n\r\n", 4);
    if (end == NULL) return size > 65536 ? -1 : 0;
    if (size < 12 || memcmp(bytes, "HTTP/1.", 7)) return -1;
    *out = (struct head){.status = atoi(bytes + 9), .length = -1};
    out->size = (size_t)(end - bytes) + 4;
    const char *line = memchr(bytes, '\n', out->size);
    while (line != NULL && ++line < end) {
        if (!strncasecmp(line, "content-length:", 15)) out->length = atol(line + 15);
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) out->chunked = true;
        line = memchr(line, '\n', (size_t)(end - line));
    }
    return 1;
}

long chunks_decode(struct chunks *c, char *bytes, size_t size, size_t *used) {
    enum { DIGITS, EXTENSION, DATA, AFTER, TRAILER, TRAILER_LINE, OVER };
    size_t from = 0, to = 0;
    while (from < size && c->state != OVER) {
        if (c->state == DATA) {
            size_t part = size - from < c->left ? size - from : c->left;
            memmove(bytes + to, bytes + from, part);
            from += part;
            to += part;
            c->left -= part;
            if (c->left == 0) c->state = AFTER;
            continue;
        }
        char x = bytes[from++];
        switch (c->state) {
            case DIGITS:
                if (x >= '0' && x <= '9') {
                    c->left = c->left << 4 | (size_t)(x - '0');
                } else if ((x | 32) >= 'a' && (x | 32) <= 'f') {
                    c->left = c->left << 4 | (size_t)((x | 32) - 'a' + 10);
                } else if (x == '\r' || x == ';') {
                    c->state = EXTENSION;
                } else {
                    return -1;
                }
                if (c->left > (size_t)1 << 40) return -1;
                break;
            case EXTENSION:
                if (x == '\n') c->state = c->left ? DATA : TRAILER;
                break;
            case AFTER:
                if (x == '\n') c->state = DIGITS;
                else if (x != '\r') return -1;
                break;
            case TRAILER:
                if (x == '\n') c->state = OVER;
                else if (x != '\r') c->state = TRAILER_LINE;
                break;
            case TRAILER_LINE:
                if (x == '\n') c->state = TRAILER;
                break;
        }
    }
    c->over = c->state == OVER;
    *used = from;
    return (long)to;
}

int connect_loopback(int port, bool narrow) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (narrow) {
        int window = 4096, segment = 1460;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

char *file_read(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 20);
    if (file == NULL || text == NULL) {
        perror(path);
        exit(2);
    }
    size_t got = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    text[got] = 0;
    if (size) *size = got;
    return text;
}
