# SPDX-License-Identifier: Apache-2.0
"""A page with very many lives: many.py PAGE REPORT. It is there within three seconds, and follows the mouse frame by frame.

What is asserted is the time of the page's own thread, which does not depend on what else the machine does; what passed on the
clock is printed.
"""

import json
import sys

from chromium import Page

page_file, report_file = sys.argv[1:]
MOST_TO_OPEN = 3000
MOST_PER_FRAME = 60
with open(report_file) as file:
    report = json.load(file)


def spent(page):
    """Milliseconds that the page's thread has run."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return 1000 * next(it["value"] for it in metrics if it["name"] == "ThreadTime")


def frame(page, moves):
    """Milliseconds that drawing the map once takes, whatever else the page does included."""
    page.run(
        "window.drawn = 0; window.watcher = new MutationObserver(() => { drawn += 1; });"
        " watcher.observe(document.querySelector('#map-words'), { childList: true }); 0"
    )
    before = spent(page)
    for move in moves:
        move()
        page.settle()
    drawn = page.run("(() => { watcher.disconnect(); return drawn; })()")
    return (spent(page) - before) / max(drawn, len(moves))


with Page() as page:
    page.call("Performance.enable", timeDomain="threadTicks")
    page.open(page_file)
    opened, clock = spent(page), page.run("performance.getEntriesByName('drawn')[0].startTime")
    assert opened < MOST_TO_OPEN, f"the page was there after {opened:.0f} ms"
    shown = page.text("#figure-allocations").replace(",", "")
    assert int(shown) == sum(row["allocations"] for row in report["totals"]), shown
    left, top, width, height = page.box("#map")
    x, y = left + width / 2, top + height / 3
    frames = {
        "zooming": frame(page, [lambda: page.wheel(x, y, -240)] * 10 + [lambda: page.wheel(x, y, 240)] * 10),
        "panning": frame(page, [lambda: page.drag(x, y, x + 90, y), lambda: page.drag(x + 90, y, x, y)] * 4),
        "pointing": frame(page, [lambda step=step: page.mouse("mouseMoved", x + 8 * step, y + 3 * step) for step in range(30)]),
    }
    for what, time in frames.items():
        assert time < MOST_PER_FRAME, f"a frame took {time:.0f} ms while {what}"
    repeats = next((row["confirmed"] for row in report["verdicts"] if row["verdict"] == "repeat"), 0)
    if repeats:
        page.choose("#filter-verdict", "repeat")
        words = page.text("#matches")
        assert f" {repeats:,} events match" in words, words
    assert page.problems == [] and len(page.requests) == 1, (page.problems, page.requests)
    each = ", ".join(f"{time:.1f} ms while {what}" for what, time in frames.items())
    print(f"opened in {opened:.0f} ms of its thread, first frame after {clock:.0f} ms on the clock; a frame takes {each}")
