#include "histogram.h"

#include <inttypes.h>

enum { LAST = (HISTOGRAM_POWERS + 1) * HISTOGRAM_SUB - 1 };

static int bucket_of(uint64_t ns) {
    if (ns < HISTOGRAM_SUB) return (int)ns;
    int shift = 63 - __builtin_clzll(ns) - 7;
    int bucket = (shift + 1) * HISTOGRAM_SUB + (int)((ns >> shift) - HISTOGRAM_SUB);
    return bucket < LAST ? bucket : LAST;
}

static int64_t upper_of(int bucket) {
    if (bucket < HISTOGRAM_SUB) return bucket;
    int shift = bucket / HISTOGRAM_SUB - 1;
    return ((int64_t)(bucket % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << shift) - 1;
}

void histogram_record(struct histogram *h, int64_t ns) {
    if (ns < 0) ns = 0;
    if (ns > h->max) h->max = ns;
    h->count++;
    h->buckets[bucket_of((uint64_t)ns)]++;
}

int64_t histogram_at(const struct histogram *h, double quantile) {
    if (h->count == 0) return 0;
    double wanted = quantile * (double)h->count;
    uint64_t seen = 0;
    for (int i = 0; i < LAST; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] && (double)seen >= wanted) {
            return upper_of(i) < h->max ? upper_of(i) : h->max;
        }
    }
    return h->max;
}

void histogram_print(FILE *to, const struct histogram *h) {
    fprintf(to,
            "{\"count\":%" PRIu64
            ",\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}",
            h->count, (double)histogram_at(h, 0.5) / 1e3, (double)histogram_at(h, 0.9) / 1e3,
            (double)histogram_at(h, 0.99) / 1e3, (double)histogram_at(h, 0.999) / 1e3,
            (double)h->max / 1e3);
}
