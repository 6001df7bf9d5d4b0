#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads an export to Parquet with DuckDB and pyarrow, and prints what they find: tables.py FOLDER QUERIES

One JSON object: the rows of each query by its name, the columns of each table, and what pyarrow says of the steps.
"""

import json
import os
import pathlib
import sys

import duckdb
import pyarrow
import pyarrow.compute
import pyarrow.dataset

TABLES = "steps lives stacks sites tests losses runs processes counters reported".split()


def main():
    folder, queries = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    os.chdir(folder)
    connection = duckdb.connect()
    connection.execute((queries / "tables.sql").read_text())
    found = {}
    for query in queries.glob("*.sql"):
        if query.stem != "tables":
            found[query.stem] = rows(connection.execute(query.read_text()))
    found["columns"] = {table: columns(connection, table) for table in TABLES}
    found["counts"] = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    found["pyarrow"] = by_pyarrow()
    json.dump(found, sys.stdout)


def rows(cursor):
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def columns(connection, table):
    return [row["column_name"] for row in rows(connection.execute(f"DESCRIBE {table}"))]


def by_pyarrow():
    partitions = pyarrow.schema([("host", pyarrow.string()), ("process", pyarrow.int64())])
    hive = pyarrow.dataset.partitioning(partitions, flavor="hive")
    steps = pyarrow.dataset.dataset("steps", partitioning=hive).to_table()
    stacks = pyarrow.dataset.dataset("stacks").to_table()
    return {
        "steps": steps.num_rows,
        "bytes": pyarrow.compute.sum(steps["bytes"]).as_py(),
        "processes": sorted(set(steps["process"].to_pylist())),
        "functions": sorted({name for name in stacks["function"].to_pylist() if name}),
    }


if __name__ == "__main__":
    main()
