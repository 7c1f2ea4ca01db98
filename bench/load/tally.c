#include "tally.h"

#include <stdlib.h>

/* The place of the first id that is not below `id`, among those that the receiver expects. */
static uint64_t place_of(const struct receiver *r, const struct tally *t, uint64_t id) {
    uint64_t ahead = (r->remainder + t->stride - t->first % t->stride) % t->stride;
    uint64_t start = t->first + ahead;
    return id <= start ? 0 : (id - start + t->stride - 1) / t->stride;
}

bool receiver_init(struct receiver *r, const struct tally *t, uint64_t remainder) {
    *r = (struct receiver){.remainder = remainder % t->stride};
    r->seen = calloc(t->room / t->stride / 64 + 2, sizeof *r->seen);
    return r->seen != NULL;
}

enum arrival tally_take(struct tally *t, struct receiver *r, uint64_t id) {
    if (id < t->first || id >= t->first + t->room || id % t->stride != r->remainder) {
        t->unknown++;
        return STRANGE;
    }
    uint64_t place = place_of(r, t, id), bit = 1ull << (place & 63);
    if (r->seen[place >> 6] & bit) {
        t->duplicates++;
        return TWICE;
    }
    r->seen[place >> 6] |= bit;
    t->received++;
    if (id + 1 < r->highest) t->out_of_order++;
    else r->highest = id + 1;
    return NEW;
}

uint64_t receiver_expects(const struct receiver *r, const struct tally *t,
                          uint64_t from, uint64_t end) {
    return end <= from ? 0 : place_of(r, t, end) - place_of(r, t, from);
}

uint64_t receiver_has(const struct receiver *r, const struct tally *t,
                      uint64_t from, uint64_t end) {
    uint64_t count = 0;
    if (end <= from) return 0;
    for (uint64_t place = place_of(r, t, from); place < place_of(r, t, end); place++) {
        count += r->seen[place >> 6] >> (place & 63) & 1;
    }
    return count;
}
