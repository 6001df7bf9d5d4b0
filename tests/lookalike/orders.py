# SPDX-License-Identifier: Apache-2.0
"""A target that does as it is told, line by line, for benchmarks.

Each line of standard input is a JSON object: allocate and free `pairs` times, or until so many `seconds` are over, where
that is not 0; `rate` of them a second (0: as fast as can be); after each, count to `work`, as a program does that has
other things to do; `fresh` of a hundred from a stack that none came from before, the others from one of a few (0: all
from the same). The answer on standard output is a line `took PAIRS WALL CPU INSIDE`: how many they were, and nanoseconds,
by the clock, of the thread's own processor time, the kernel's part of it included, and of that, what the pairs took where
there was work between them, else 0.
"""

import json
import sys
import time

# Calls above a pair that are one of two functions each, so that there are so many powers of two of stacks.
LEVELS = 16
# Stacks that are not fresh.
KNOWN = 64
# Sleeping takes a while by itself: not for less than this.
SHORTEST_SLEEP_NS = 500_000


def obey(pair):
    """Calls `pair` as often as it is told, until there is no more input."""
    places = Places(pair)
    for line in sys.stdin:
        order = json.loads(line)
        act = places.pair(order["fresh"]) if order["fresh"] else pair
        print("took", *repeat(act, order["pairs"], order["seconds"], order["rate"], order["work"]), flush=True)


def repeat(act, pairs, seconds, rate, work):
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    end = wall + seconds * 1_000_000_000
    number = inside = 0
    while number < pairs:
        if work:
            inside -= time.thread_time_ns()
            act()
            inside += time.thread_time_ns()
            for _ in range(work):
                pass
        else:
            act()
        number += 1
        if rate or seconds:
            now = time.perf_counter_ns()
            if seconds and now >= end:
                break
            ahead = wall + number * 1_000_000_000 // rate - now if rate else 0
            if ahead > SHORTEST_SLEEP_NS:
                time.sleep(ahead / 1e9)
    return number, time.perf_counter_ns() - wall, time.thread_time_ns() - cpu, inside


class Places:
    """Where pairs come from: numbered stacks, which differ by the functions that call each other."""

    def __init__(self, pair):
        self._pair = pair
        self._fresh = KNOWN

    def pair(self, percent):
        """A function that allocates and frees, so many percent of the times from a new place."""
        number = 0

        def act():
            nonlocal number
            number += 1
            if number * percent % 100 < percent:
                self._fresh += 1
                place = self._fresh
            else:
                place = number % KNOWN
            step(place, LEVELS, self._pair)

        return act


def step(place, levels, pair):
    if levels == 0:
        pair()
    elif place % 2:
        odd(place // 2, levels - 1, pair)
    else:
        even(place // 2, levels - 1, pair)


def odd(place, levels, pair):
    step(place, levels, pair)


def even(place, levels, pair):
    step(place, levels, pair)
