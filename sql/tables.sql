-- SPDX-License-Identifier: Apache-2.0
-- The tables of `tt-buftrace export --to parquet` as views. DuckDB only; run it in the folder of the export:
--   cd FOLDER && duckdb -init …/sql/tables.sql
-- In Spark, each is spark.read.parquet("FOLDER/steps").createOrReplaceTempView("steps"), and so on. The other files here are
-- standard SQL and run in both.

CREATE OR REPLACE VIEW steps AS SELECT * FROM read_parquet('steps/*/*/*.parquet',
    hive_partitioning = true, hive_types = {'host': VARCHAR, 'process': BIGINT});
CREATE OR REPLACE VIEW lives AS SELECT * FROM read_parquet('lives/*/*/*.parquet',
    hive_partitioning = true, hive_types = {'host': VARCHAR, 'process': BIGINT});
CREATE OR REPLACE VIEW stacks AS SELECT * FROM 'stacks/*.parquet';
CREATE OR REPLACE VIEW sites AS SELECT * FROM 'sites/*.parquet';
CREATE OR REPLACE VIEW tests AS SELECT * FROM 'tests/*.parquet';
CREATE OR REPLACE VIEW losses AS SELECT * FROM 'losses/*.parquet';
CREATE OR REPLACE VIEW runs AS SELECT * FROM 'runs/*.parquet';
CREATE OR REPLACE VIEW processes AS SELECT * FROM 'processes/*.parquet';
CREATE OR REPLACE VIEW counters AS SELECT * FROM 'counters/*.parquet';
CREATE OR REPLACE VIEW reported AS SELECT * FROM 'reported/*.parquet';
