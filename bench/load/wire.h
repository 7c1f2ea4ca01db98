/* Reading what servers send and writing what clients send. Nothing here touches a socket but a
 * helper at the end; readers say 1 (there is one), 0 (more bytes are needed) or -1 (wrong). */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum { WS_HEAD_MOST = 14, WS_MESSAGE_MOST = 16 << 20 };

struct frame {
    int opcode;
    bool fin;
    const char *payload;
    size_t size;
    size_t whole; /* head and payload */
};

/* A frame from a server: unmasked (RFC 6455 section 5.1), no extension negotiated (5.2). */
int frame_read(const char *bytes, size_t size, struct frame *out);

/* A frame from a client: masked (section 5.3). `out` has room for WS_HEAD_MOST more than `size`;
 * gives what was written. */
size_t frame_write(char *out, int opcode, const char *payload, size_t size);

struct head {
    int status;
    long length; /* of the body; -1 where it was not said */
    bool chunked;
    size_t size;
};

/* The head of an HTTP/1.1 response, up to and with its empty line. */
int head_read(const char *bytes, size_t size, struct head *out);

struct chunks {
    int state;
    size_t left;
    bool over;
};

/* Takes the chunk framing (RFC 9112 section 7.1) out of the bytes, in place, however they are cut;
 * `chunks` starts as zeros. Gives what is left, or -1. `used` is set to what belonged to this body:
 * less than `size` only where the body is over. */
long chunks_decode(struct chunks *chunks, char *bytes, size_t size, size_t *used);

/* A socket to 127.0.0.1 whose connect is under way: non-blocking, without delay. -1 and errno.
 * `narrow`: with an Ethernet's segments and hardly a buffer. Loopback's segments of 64 KiB let the
 * server's kernel take megabytes for a client that reads nothing, and its server none the wiser. */
int connect_loopback(int port, bool narrow);

/* The whole of a file as a string; ends the process where it can't be read. */
char *file_read(const char *path, size_t *size);

#endif
