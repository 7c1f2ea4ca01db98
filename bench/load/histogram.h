/* A histogram of times whose buckets are a constant share of the value wide (after HdrHistogram).
 *
 * 128 buckets to each power of two: what it gives back is at most 0.8 % above what was recorded,
 * from 1 ns to 18 minutes, in 36 KiB, and recording is an increment.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum { HISTOGRAM_SUB = 128, HISTOGRAM_POWERS = 34 };

struct histogram {
    uint64_t count;
    int64_t max;
    uint64_t buckets[(HISTOGRAM_POWERS + 1) * HISTOGRAM_SUB];
};

/* A negative time counts as 0, one beyond the range as the last bucket; `max` is exact. */
void histogram_record(struct histogram *h, int64_t ns);

/* The time that a share of `quantile` (0 to 1) did not exceed: its bucket's upper bound, never
 * above `max`. 0 where nothing was recorded. */
int64_t histogram_at(const struct histogram *h, double quantile);

/* {"count":..,"p50":..,"p90":..,"p99":..,"p999":..,"max":..}, in microseconds. */
void histogram_print(FILE *to, const struct histogram *h);

#endif
