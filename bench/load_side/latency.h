/* Latencies counted in buckets of 1.6 % width, from 1 ns to 2^41 ns. */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>
#include <string.h>

enum { SHARE_BITS = 6, SHARES = 1 << SHARE_BITS, LATENCY_BUCKETS = 36 * SHARES };

struct latencies {
    uint64_t counts[LATENCY_BUCKETS];
    uint64_t total;
};

static inline void latency_add(struct latencies *seen, uint64_t ns)
{
    unsigned bucket = (unsigned)ns;
    if (ns >= SHARES) {
        int power = 63 - __builtin_clzll(ns) - SHARE_BITS;
        bucket = (unsigned)((power + 1) << SHARE_BITS) + (unsigned)(ns >> power) - SHARES;
    }
    seen->counts[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1]++;
    seen->total++;
}

/* The latency in ns below which this share of all lies: the middle of its bucket. 0 when there is none. */
static inline double latency_at(const struct latencies *seen, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)seen->total), passed = 0;
    for (unsigned bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        passed += seen->counts[bucket];
        if (passed > wanted) {
            int power = bucket < SHARES ? 0 : (int)(bucket >> SHARE_BITS) - 1;
            uint64_t low = bucket < SHARES ? bucket : (uint64_t)((bucket & (SHARES - 1)) + SHARES) << power;
            return (double)low + (double)(1ULL << power) / 2;
        }
    }
    return 0;
}

#endif
