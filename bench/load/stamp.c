/* The stamp's functions are inline; here they are for who links, such as the tests. */
#include "stamp.h"

const char *find_stamp(const char *from, const char *end, struct stamp *out) {
    return stamp_find(from, end, out);
}

void write_stamp(char *to, uint64_t id, int64_t at) { stamp_write(to, id, at); }
