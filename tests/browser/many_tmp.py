# SPDX-License-Identifier: Apache-2.0
"""A page with very many lives: many.py PAGE REPORT. It opens within three seconds, and a frame follows each move of the mouse."""

import json
import os
import sys

from chromium import Page

page_file, report_file = sys.argv[1:]
SLOWNESS = int(os.environ.get("BUFTRACE_SLOWNESS", "1"))
with open(report_file) as file:
    report = json.load(file)

# What a frame takes: from its begin to behind what it draws.
FRAMES = """
window.frames_ = []; window.watching_ = true;
(function watch() {
  const begin = performance.now();
  requestAnimationFrame(() => { const at = performance.now(); setTimeout(() => { frames_.push(performance.now() - at); if (watching_) watch(); }); });
})(); 0
"""


def typical(page):
    """The median and the largest of the frames since they are watched, in milliseconds."""
    frames = sorted(page.run("(() => { watching_ = false; return frames_; })()"))
    return frames[len(frames) // 2], frames[-1]


with Page() as page:
    page.open(page_file)
    drawn = page.run("performance.getEntriesByName('drawn')[0].startTime")
    ready = page.run("performance.now()")
    assert drawn < 3000 * SLOWNESS, f"the first frame was there after {drawn:.0f} ms"
    shown = page.text("#figure-allocations").replace(",", "")
    assert int(shown) == sum(row["allocations"] for row in report["totals"]), shown
    left, top, width, height = page.box("#map")
    x, y = left + width / 2, top + height / 3
    page.run(FRAMES)
    for turn in range(12):
        page.wheel(x, y, -240)
        page.settle()
    for turn in range(6):
        page.drag(x, y, x + 120 * (-1) ** turn, y)
        page.settle()
    for turn in range(12):
        page.wheel(x, y, 240)
        page.settle()
    median, worst = typical(page)
    page.run(FRAMES)
    for step in range(30):
        page.mouse("mouseMoved", x + 8 * step, y + 3 * step)
        page.settle()
    hover, slowest = typical(page)
    assert median < 50 * SLOWNESS, f"a frame took {median:.0f} ms while zooming"
    assert hover < 50 * SLOWNESS, f"a frame took {hover:.0f} ms while pointing"
    sys.exit(print(drawn, ready, median, worst, hover, slowest))
    page.settle()
    repeats = next(row for row in report["verdicts"] if row["verdict"] == "repeat")
    words = page.text("#matches")
    assert f" {repeats['confirmed']:,} events match" in words, words
    page.choose("#filter-verdict", "")
    assert page.problems == [] and len(page.requests) == 1, (page.problems, page.requests)
    print(
        f"first frame after {drawn:.0f} ms, all after {ready:.0f} ms; a frame {median:.1f} ms (at most {worst:.1f}) while "
        f"zooming and panning, {hover:.1f} ms (at most {slowest:.1f}) while pointing"
    )
