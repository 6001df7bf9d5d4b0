# SPDX-License-Identifier: Apache-2.0
"""A page of a trace without buffers: empty.py PAGE."""

import sys

from chromium import Page

with Page(dark=True) as page:
    page.open(sys.argv[1])
    assert page.text("#excess .absent") == "No excess frees.", page.text("#excess")
    assert page.text("#held .absent") == "Nothing was held.", page.text("#held")
    assert page.text("#figure-allocations") == "0"
    page.run("document.querySelector('#map').focus()")
    for key in ("n", "Enter", "+", "0", "e"):
        page.key(key)
    page.settle()
    assert page.problems == [] and len(page.requests) == 1, (page.problems, page.requests)
