# SPDX-License-Identifier: Apache-2.0
"""A page of the look-alike's scenarios: use.py PAGE REPORT EXCESS HELD. Its numbers are those of the views, and it can be used."""

import json
import os
import sys
import tempfile

from chromium import Page

SIZES = ((1280, 800), (800, 600), (2560, 1440))
SHIFT = 8
page_file = sys.argv[1]
report, excess, held = (json.load(open(name)) for name in sys.argv[2:])


def equal(found, wanted, what):
    assert found == wanted, f"{what}: {found!r} is not {wanted!r}"


def number(text):
    return int(text.replace(",", ""))


def rows(page, table):
    """The cells of a table, with all of its rows shown."""
    page.run(f"document.querySelector('#{table} .more')?.click()")
    return page.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )


def check_numbers(page):
    totals = report["totals"]
    equal(number(page.text("#figure-allocations")), sum(row["allocations"] for row in totals), "allocations")
    equal(number(page.text("#figure-live")), sum(row["live"] for row in totals), "live")
    by_colour = {colour: 0 for colour in ("excess", "red")}
    for row in report["verdicts"]:
        if row["colour"] in by_colour:
            by_colour[row["colour"]] += row["confirmed"] + row["possible"]
    for colour, count in by_colour.items():
        equal(number(page.text(f"#figure-{colour}")), count, colour)
    equal(
        [(cells[0], number(cells[1]), number(cells[2])) for cells in rows(page, "verdicts")],
        [(row["verdict"], row["confirmed"], row["possible"]) for row in report["verdicts"]], "verdicts",
    )
    equal(
        [(cells[0], number(cells[1]), number(cells[2])) for cells in rows(page, "tests")],
        [(row["test"] or "(outside of tests)", row["allocations"], row["frees"]) for row in report["tests"]], "tests",
    )
    equal(
        [(cells[0], cells[1], number(cells[2])) for cells in rows(page, "balance")],
        [(row["device"] or "unknown", row["buffer_type"], row["addresses"]) for row in report["balance"]["allocator"]], "balance",
    )
    equal(
        [(cells[0], cells[2], number(cells[3]), number(cells[4])) for cells in rows(page, "offenders")],
        [(row["device"], hex(row["address"]), row["allocations"], row["frees"]) for row in report["balance"]["allocator_offenders"]],
        "offenders",
    )
    sites = "[...document.querySelectorAll('#%s .finding')].map((it) => it.querySelector('.site-id').textContent)"
    equal(page.run(sites % "excess"), [site["site"]["id"] for site in excess["sites"]], "excess sites")
    equal(page.run(sites % "held"), [(group["site"] or {"id": ""})["id"] for group in held["groups"]], "held sites")


def check_flames(page):
    """What the page adds up from lives and events is what the analyses say."""
    sums = {
        "allocations": sum(row["allocations"] for row in report["totals"]),
        "excess": sum(site["count"] for site in excess["sites"]),
    }
    for measure, wanted in sums.items():
        page.choose("#weigh", measure)
        equal(number((page.text("#flame-words") or "0").split()[0]), wanted, measure)
    page.choose("#weigh", "held")
    held_bytes = sum(total["bytes"] for total in held["totals"])
    equal(page.text("#flame-words").split(" held")[0], human(held_bytes), "held")
    page.choose("#weigh", "peak")
    peaks = sum(row["peak_bytes"] for row in report["totals"])
    equal(page.text("#flame-words").split(" live")[0], human(peaks), "peak")
    page.choose("#weigh", "excess")


def human(size):
    units = ["B", "KiB", "MiB", "GiB"]
    scaled, unit = float(size), 0
    while scaled >= 1024 and unit < 3:
        scaled, unit = scaled / 1024, unit + 1
    return f"{scaled:.{1 if unit else 0}f} {units[unit]}"


def span(page):
    return page.text("#map-words").split(":")[0]


def check_map(page):
    whole = span(page)
    left, top, width, height = page.box("#map")
    middle = (left + width / 2, top + height / 4)
    page.wheel(*middle, -300)
    page.settle()
    zoomed = span(page)
    assert zoomed != whole, "the wheel zooms"
    page.drag(*middle, middle[0] + 60, middle[1])
    page.settle()
    assert span(page) not in (whole, zoomed), "dragging pans"
    page.run("document.querySelector('#map').focus()")
    page.key("0")
    page.settle()
    equal(span(page), whole, "0 shows everything")
    page.drag(left + width * 0.4, top + 40, left + width * 0.6, top + 40)
    page.settle()
    assert span(page) != whole, "dragging in a curve selects a time"
    page.key("Home")
    # From one event to the next, until one is a free that follows another, and its stacks.
    for _ in range(60):
        page.key("e")
        page.settle()
        if page.text("#map-chosen").startswith("repeat of buffer "):
            break
    else:
        raise AssertionError(page.text("#map-chosen"))
    page.key("Enter")
    page.settle()
    titles = page.run("[...document.querySelectorAll('dialog[open] h3')].map((it) => it.textContent)")
    equal((titles[0], titles[2]), ("This free", "The allocation"), "stacks of an event")
    assert titles[1].startswith("The free before"), titles
    assert page.run("document.querySelectorAll('dialog[open] .stack li').length") > 5
    before = page.run("document.querySelectorAll('dialog[open] .stack li').length")
    page.click_on("dialog[open] input[type=checkbox]")
    page.settle()
    assert page.run("document.querySelectorAll('dialog[open] .stack li').length") > before, "the interpreter's functions come"
    page.click_on("dialog[open] input[type=checkbox]")
    page.key("Escape")
    page.wait("!document.querySelector('dialog').open")


def check_pointing(page):
    """A life or event is under the mouse somewhere: its tooltip comes, and a click opens its stacks."""
    page.key("0")
    page.settle()
    left, top, width, height = page.box("#map")
    for y in range(int(top) + 100, int(top + min(height, 400)), 6):
        for x in range(int(left) + 106, int(left + width) - 12, 14):
            page.mouse("mouseMoved", x, y)
            if page.run("!document.querySelector('#tip').hidden && /Address/.test(document.querySelector('#tip').textContent)"):
                page.click(x, y)
                page.settle()
                assert page.run("document.querySelector('dialog').open"), "a click opens the stacks"
                page.click_on("dialog .close")
                page.wait("!document.querySelector('dialog').open")
                return
    raise AssertionError("nothing is under the mouse anywhere")


def check_filters(page):
    verdict = excess["sites"][0]["verdicts"][0]["verdict"]
    page.choose("#filter-verdict", verdict)
    equal([cells[0] for cells in rows(page, "verdicts")], [verdict], "the table of verdicts")
    shown = page.run("[...document.querySelectorAll('#excess .finding:not([hidden]) .site-id')].map((it) => it.textContent)")
    wanted = [site["site"]["id"] for site in excess["sites"] if any(row["verdict"] == verdict for row in site["verdicts"])]
    equal(shown, wanted, "sites of a verdict")
    count = sum(row["confirmed"] + row["possible"] for row in report["verdicts"] if row["verdict"] == verdict)
    words = page.text("#matches").split()
    equal(number(words[0]) + number(words[3]), count, "lives and events of a verdict")
    page.click_on("#clear")
    test = next(row["test"] for row in report["tests"] if row["test"])
    page.choose("#filter-test", test)
    equal([cells[0] for cells in rows(page, "tests")], [test], "the table of tests")
    page.click_on("#clear")
    page.settle()
    equal(page.text("#matches"), "", "no filters")


def check_search(page):
    page.run("document.body.focus()")
    page.key("/")
    assert page.run("document.activeElement.id") == "search", "/ goes to the search"
    site = excess["sites"][-1]
    function = site["site"]["frames"][-1].split(" ")[0]
    page.write(function)
    page.wait("document.querySelector('#matches').textContent !== ''")
    names = page.run("[...document.querySelectorAll('#excess .finding:not([hidden]) .site-name')].map((it) => it.textContent)")
    assert names and all(function in name for name in names), (function, names)
    page.key("Escape")
    page.click_on("#clear")
    page.settle()


def check_site(page):
    page.click_on("#excess .finding summary")
    page.wait("document.querySelectorAll('#excess .finding[open] .place-box').length === 3")
    functions = page.run(
        "[...document.querySelector('#excess .finding[open] .place-box').querySelectorAll('.function')].map((it) => it.textContent)"
    )
    python = [line["function"] for line in excess["sites"][0]["free"]["lines"] if line["kind"] == "python"]
    assert [name for name in functions if name in python] == python, "the Python functions of the free, in their order"


def check_theme(page):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.run(colour)
    page.prefer("dark")
    page.settle()
    dark = page.run(colour)
    assert dark != light, "dark where the system is"
    page.run("document.body.focus()")
    page.key("t")
    page.settle()
    equal(page.run(colour), light, "T makes it light")
    page.key("t")
    page.prefer("light")
    page.key("?")
    assert page.run("document.querySelector('dialog').open"), "? shows the keys"
    page.key("Escape")
    page.key("t")


def check_layout(page, width, height):
    page.resize(width, height)
    page.settle()
    equal(page.run("document.documentElement.scrollWidth <= window.innerWidth"), True, f"nothing sticks out at {width} x {height}")
    unnamed = page.run(
        "[...document.querySelectorAll('button, select, input')].filter((it) => !(it.labels?.length || it.textContent.trim()"
        " || it.ariaLabel)).map((it) => it.outerHTML)"
    )
    equal(unnamed, [], "controls have names")


def check_print(page):
    with tempfile.TemporaryDirectory() as folder:
        printed = os.path.join(folder, "page.pdf")
        page.print(printed)
        with open(printed, "rb") as file:
            data = file.read()
    assert data.startswith(b"%PDF-") and len(data) > 20000, len(data)


for size in SIZES:
    with Page(*size) as page:
        page.open(page_file)
        check_layout(page, *size)
        check_map(page)
        check_pointing(page)
        check_filters(page)
        if size == SIZES[0]:
            check_numbers(page)
            check_flames(page)
            check_search(page)
            check_site(page)
            check_theme(page)
        check_print(page)
        equal(page.problems, [], "what the page logged")
        equal(len(page.requests), 1, f"requests: {page.requests}")
