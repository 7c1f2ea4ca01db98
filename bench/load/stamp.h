/* The stamp that every event of a benchmark carries: who it is, and when it was published.
 *
 * "@@" id (10 digits) "@" time (19 digits): fixed width and nothing that JSON, a URL or a frame
 * escapes, so that it is found by its first two bytes whatever a peer wraps around it. The time is
 * CLOCK_MONOTONIC in ns, which all processes of a host share and nobody sets.
 */
#ifndef STAMP_H
#define STAMP_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { STAMP_SIZE = 32, STAMP_ID = 2, STAMP_ID_DIGITS = 10, STAMP_AT = 13, STAMP_AT_DIGITS = 19 };

struct stamp {
    uint64_t id;
    int64_t at;
};

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void digits_write(char *to, int count, uint64_t value) {
    while (count--) {
        to[count] = (char)('0' + value % 10);
        value /= 10;
    }
}

static inline int digits_read(const char *from, int count, uint64_t *value) {
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        unsigned digit = (unsigned)(from[i] - '0');
        if (digit > 9) return 0;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return 1;
}

static inline void stamp_write(char *to, uint64_t id, int64_t at) {
    to[0] = to[1] = to[STAMP_AT - 1] = '@';
    digits_write(to + STAMP_ID, STAMP_ID_DIGITS, id);
    digits_write(to + STAMP_AT, STAMP_AT_DIGITS, (uint64_t)at);
}

/* The next stamp in [from, end): where it ends, or NULL where there is none. */
static inline const char *stamp_find(const char *from, const char *end, struct stamp *out) {
    while (end - from >= STAMP_SIZE) {
        const char *at = memchr(from, '@', (size_t)(end - from) - (STAMP_SIZE - 1));
        uint64_t time;
        if (at == NULL) return NULL;
        if (at[1] == '@' && at[STAMP_AT - 1] == '@' &&
            digits_read(at + STAMP_ID, STAMP_ID_DIGITS, &out->id) &&
            digits_read(at + STAMP_AT, STAMP_AT_DIGITS, &time)) {
            out->at = (int64_t)time;
            return at + STAMP_SIZE;
        }
        from = at + 1;
    }
    return NULL;
}

#endif
