#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the tables of a report that ttnn itself makes, and of one that is given, as JSON: schema.py DB

Runs in the Python of a ttnn release, whose own script makes the tables, without ttnn.
"""

import importlib.util
import json
import pathlib
import sqlite3
import sys


def main():
    (package,) = importlib.util.find_spec("ttnn").submodule_search_locations
    sys.path.insert(0, str(pathlib.Path(package)))
    import graph_report

    own = sqlite3.connect(":memory:")
    graph_report.create_database_schema(own.cursor())
    given = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    json.dump({"own": tables(own), "given": tables(given), "version": graph_report.DATABASE_SCHEMA_VERSION}, sys.stdout)


def tables(connection):
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    columns = lambda name: sorted((row[1], row[2].lower()) for row in connection.execute(f"PRAGMA table_info({name})"))
    return {name: columns(name) for (name,) in names.fetchall()}


if __name__ == "__main__":
    main()
