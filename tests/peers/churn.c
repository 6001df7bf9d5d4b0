/* SPDX-License-Identifier: Apache-2.0 */
/*! Allocates and frees memory for other tools to trace: of many sizes, from many native stacks, in no order. */

#include <stdint.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))
/* Calls above an allocation that are one of two functions each. */
#define LEVELS 20
/* Blocks that live at a time. */
#define LIVE 4000

static uint64_t state = 88172645463325252u;

/* Marsaglia's xorshift64. */
static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 8;
}

static void* step(uint64_t place, int levels, size_t size);

NOINLINE static void* odd(uint64_t place, int levels, size_t size) {
    void* block = step(place, levels, size);
    __asm__ volatile("" : "+r"(block)); /* no tail call */
    return block;
}

NOINLINE static void* even(uint64_t place, int levels, size_t size) {
    void* block = step(place, levels, size);
    __asm__ volatile("" : "+r"(block), "+r"(levels));
    return block;
}

NOINLINE static void* step(uint64_t place, int levels, size_t size) {
    void* block = levels == 0   ? malloc(size)
                  : place & 1 ? odd(place >> 1, levels - 1, size)
                              : even(place >> 1, levels - 1, size);
    __asm__ volatile("" : "+r"(block));
    return block;
}

/* So many calls of malloc and of free, half of each; `fresh` of a hundred allocations from a stack that none came from
   before, the others from one of `known`. Each stack asks for a size of its own. */
void churn(uint64_t events, uint64_t known, uint64_t fresh) {
    static void* live[LIVE];
    uint64_t fresh_places = known;
    for (uint64_t pair = 0; pair < events / 2; ++pair) {
        uint64_t place = next() % 100 < fresh ? fresh_places++ : next() % known;
        void** slot = &live[next() % LIVE];
        free(*slot);
        *slot = step(place, LEVELS, 16 + place * 2654435761u % 4096);
    }
    for (int slot = 0; slot < LIVE; ++slot) {
        free(live[slot]);
        live[slot] = NULL;
    }
}

int main(int count, char** arguments) {
    if (count != 4) return 2;
    churn(strtoull(arguments[1], NULL, 10), strtoull(arguments[2], NULL, 10), strtoull(arguments[3], NULL, 10));
    return 0;
}
