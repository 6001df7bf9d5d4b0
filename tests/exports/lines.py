#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks JSON lines against their schema, and CSV of the same steps against them: lines.py SCHEMA JSONL CSV

Prints how many there are.
"""

import csv
import json
import pathlib
import sys

import jsonschema


def main():
    schema, lines, table = map(pathlib.Path, sys.argv[1:])
    schema = json.loads(schema.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    steps = [json.loads(line) for line in lines.read_text().splitlines()]
    for step in steps:
        validator.validate(step)
    # The schema refuses what it does not know.
    assert not validator.is_valid(steps[0] | {"more": 1}) and not validator.is_valid(steps[0] | {"verdict": "fine"})
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(steps), (len(rows), len(steps))
    for row, step in zip(rows, steps):
        assert row == {name: cell(value) for name, value in step.items() if name != "schema"}, (row, step)
    print(len(steps))


def cell(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
