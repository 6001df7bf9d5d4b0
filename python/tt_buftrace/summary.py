# SPDX-License-Identifier: Apache-2.0
"""From what `report`, `held` and `check` say in JSON to the lines of pytest's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

# Rows of the table, unless all are wanted.
MOST_ROWS = 20
NO_TEST = "(outside of tests)"


@dataclass
class TestRow:
    """What a test did to buffers."""

    test: str
    allocations: int = 0
    frees: int = 0
    # Verdicts other than normal, with how often, and what they count as: red, excess or yellow.
    odd: dict[str, int] = field(default_factory=dict)
    colours: set[str] = field(default_factory=set)
    excess: int = 0
    held_bytes: int = 0
    # Buffers that only the closing of their device released.
    until_close: int = 0

    @property
    def is_odd(self) -> bool:
        return bool(self.odd)

    @property
    def markup(self) -> dict[str, bool]:
        if "red" in self.colours:
            return {"red": True}
        return {"yellow": True} if self.colours else {}


@dataclass
class Failure:
    """A rule that a test, or the session, has broken."""

    rule: str
    count: int | None = None
    test: str | None = None

    def __str__(self) -> str:
        what = self.rule if self.count is None else f"{self.rule}: {self.count}"
        return f"FAILED {self.test} - {what}" if self.test else f"FAILED {what}"


def rows(report: Json, held: Json) -> list[TestRow]:
    """A row for each test, what is worst before what is not."""
    colours = {row["verdict"]: row["colour"] for row in report["verdicts"]}
    found = {}
    for test in report["tests"]:
        row = TestRow(test["test"] or NO_TEST, test["allocations"], test["frees"])
        for verdict, count in ((it["verdict"], it["count"]) for it in test["verdicts"]):
            colour = colours.get(verdict, "normal")
            if colour != "normal":
                row.odd[verdict] = count
                row.colours.add(colour)
            if colour in ("excess", "red"):
                row.excess += count
        found[row.test] = row
    for group in held["groups"]:
        row = found.setdefault(group["name"] or NO_TEST, TestRow(group["name"] or NO_TEST))
        # What a device's closing released is no more held than what was freed.
        if group["until"] == "close":
            row.until_close += group["count"]
        else:
            row.held_bytes += group["bytes"]
    return sorted(found.values(), key=lambda row: ("red" not in row.colours, -row.excess, -row.held_bytes))


def table(all_rows: list[TestRow], everything: bool) -> Iterator[tuple[str, dict[str, bool]]]:
    """Lines with pytest's markup: the tests that are worth a line, and a sum of the others."""
    odd = [row for row in all_rows if row.is_odd]
    shown = all_rows if everything else odd[:MOST_ROWS]
    if shown:
        yield f"{'allocs':>7} {'frees':>7} {'excess':>7} {'held':>10}  test", {}
    for row in shown:
        words = [f"{count} {verdict}" for verdict, count in row.odd.items()]
        words += [f"{row.until_close} bulk"] if row.until_close else []
        line = f"{row.allocations:>7} {row.frees:>7} {row.excess:>7} {size(row.held_bytes):>10}  {row.test}"
        yield f"{line}  ({', '.join(words)})" if words else line, row.markup
    if not everything and len(odd) > MOST_ROWS:
        yield f"and {len(odd) - MOST_ROWS} more such tests", {}
    rest = [row for row in all_rows if not row.is_odd]
    if rest and not everything:
        allocations, frees = sum(row.allocations for row in rest), sum(row.frees for row in rest)
        others = counted(len(rest), "other test" if shown else "test")
        closed = sum(row.until_close for row in rest)
        also = f"; {closed} held until their device closed" if closed else ""
        yield f"nothing odd in {others}: {counted(allocations, 'allocation')}, {counted(frees, 'free')}{also}", {}


def problems(report: Json) -> list[str]:
    """What keeps the trace from being the whole truth."""
    integrity = report["integrity"]
    lost = sum(loss["events"] for loss in integrity["losses"])
    found = sum(total["found"] for total in report["totals"])
    return [
        *([f"{lost} events were lost"] if lost else []),
        *([f"{found} buffers were there before the recorder attached"] if found else []),
        *integrity["problems"],
    ]


def doubts(check: Json) -> list[str]:
    """Rules that were kept only because what is possible does not count."""
    return [
        f"{rule['rule']}: {rule['possible']} more are only possible, which `{rule['subject']}?` counts"
        for rule in check["rules"]
        if rule["passed"] and rule["possible"]
    ]


def failures(check: Json) -> list[Failure]:
    """What has broken a rule: by test where that is known."""
    found = []
    for rule in check["rules"]:
        if rule["passed"]:
            continue
        by_test = {it["test"]: it["count"] for it in rule["tests"] if not it["passed"]}
        if not rule["tests"]:
            for finding in rule["findings"]:
                count = finding["confirmed"] + (finding["possible"] if rule["with_possible"] else 0)
                if count:
                    by_test[finding["test"]] = by_test.get(finding["test"], 0) + count
        if by_test:
            found += [Failure(rule["rule"], count, test or NO_TEST) for test, count in by_test.items()]
        else:
            found.append(Failure(rule["rule"], rule["count"]))
    if not check["passed"] and not found:
        found.append(Failure("tt-buftrace check, by its own file of defaults"))
    return found


def counted(count: int, what: str) -> str:
    """So many of it."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def size(count: int) -> str:
    """Bytes, as the program's own views have them."""
    if count < 10 * 1024:
        return f"{count} B"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
