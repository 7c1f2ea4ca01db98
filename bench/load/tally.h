/* What a crowd of subscribers has received: every event of every one, by its id.
 *
 * A subscriber expects the ids of its key: those that leave its key's remainder when divided by
 * `stride` (1: all of them). Which of them came is kept as a bit each, so that what is lost, what
 * came twice and what came late are three different numbers and none hides another. */
#ifndef TALLY_H
#define TALLY_H

#include <stdbool.h>
#include <stdint.h>

struct tally {
    uint64_t first, room, stride; /* ids from first to first + room */
    uint64_t received, duplicates, out_of_order, unknown;
};

struct receiver {
    uint64_t remainder;
    uint64_t highest; /* id + 1 of the newest received; 0: none yet */
    uint64_t *seen;
};

enum arrival { NEW, TWICE, STRANGE };

/* Gives the receiver its bits. False where there is no memory. */
bool receiver_init(struct receiver *r, const struct tally *t, uint64_t remainder);

/* One event has come. */
enum arrival tally_take(struct tally *t, struct receiver *r, uint64_t id);

/* How many ids in [from, end) the receiver expects. */
uint64_t receiver_expects(const struct receiver *r, const struct tally *t,
                          uint64_t from, uint64_t end);

/* How many of them came. */
uint64_t receiver_has(const struct receiver *r, const struct tally *t,
                      uint64_t from, uint64_t end);

#endif
