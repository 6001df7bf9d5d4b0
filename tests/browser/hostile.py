# SPDX-License-Identifier: Apache-2.0
"""A page of a trace with hostile names: hostile.py PAGE. They are shown as text, and nothing of them runs or loads."""

import sys

from chromium import Page

SHOWN = "</script><img src=x onerror=alert(1)>\\u{2028}\\u{202e}\\u{1b}[2J--><!--<script>"

with Page() as page:
    page.open(sys.argv[1])
    assert page.text("#title") == SHOWN, page.text("#title")
    page.run("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    page.settle()
    whole = page.run("document.body.innerText")
    assert whole.count("onerror=alert(1)") > 5, whole
    assert page.run("document.images.length") == 0
    assert page.run("document.scripts.length") == 1, "the data are gone once they are read"
    bad = page.run(r"[...document.body.innerText].filter((c) => /[\u2028\u202e\x1b]/.test(c)).length")
    assert bad == 0, f"{bad} characters that move or hide text"
    # Numbers that no double has are exact.
    page.run("document.querySelector('#map').focus()")
    page.key("n")
    page.settle()
    assert "0xffffffffffffff00" in page.text("#map-chosen"), page.text("#map-chosen")
    page.key("Enter")
    page.settle()
    assert "onerror" in page.run("document.querySelector('dialog').innerText")
    page.key("Escape")
    for _ in range(2):
        page.key("n")
    page.settle()
    assert "Buffer 18446744073709551615" in page.text("#map-chosen"), page.text("#map-chosen")
    assert page.problems == [], page.problems
    assert len(page.requests) == 1, page.requests
