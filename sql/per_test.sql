-- SPDX-License-Identifier: Apache-2.0
-- What each test allocated and freed. A verdict belongs to the test that made it so; what nobody did, e.g. that a buffer is
-- still live at the end, or released when its device closed, to the test that allocated the buffer. Without a test: outside of
-- any. What a forked child frees of its parent's is inherited, and gives nothing back.

WITH done AS (
    SELECT
        test,
        CASE WHEN what = 'alloc' AND NOT phantom THEN 1 ELSE 0 END AS allocations,
        CASE WHEN what = 'alloc' AND NOT phantom THEN bytes ELSE 0 END AS bytes_allocated,
        CASE
            WHEN ends AND NOT phantom AND verdict NOT IN ('held', 'failed', 'phantom', 'overlap', 'inherited', 'bulk') THEN 1 ELSE 0
        END AS frees,
        CASE
            WHEN ends AND NOT phantom AND verdict NOT IN ('held', 'failed', 'phantom', 'overlap', 'inherited', 'bulk') THEN bytes ELSE 0
        END AS bytes_freed,
        0 AS excess,
        0 AS red,
        0 AS held
    FROM steps
    WHERE (what = 'alloc' AND NOT phantom)
        OR (ends AND NOT phantom AND verdict NOT IN ('held', 'failed', 'phantom', 'overlap', 'inherited', 'bulk'))
    UNION ALL
    SELECT
        CASE
            WHEN verdict = 'bulk' OR (thread = 0 AND allocated IS NOT NULL) THEN allocated_test ELSE test
        END AS test,
        0 AS allocations,
        0 AS bytes_allocated,
        0 AS frees,
        0 AS bytes_freed,
        CASE WHEN colour = 'excess' THEN 1 ELSE 0 END AS excess,
        CASE WHEN colour = 'red' THEN 1 ELSE 0 END AS red,
        CASE WHEN verdict = 'held' THEN 1 ELSE 0 END AS held
    FROM steps
    WHERE verdict IS NOT NULL
)
SELECT
    test,
    sum(allocations) AS allocations,
    sum(frees) AS frees,
    sum(bytes_allocated) AS bytes_allocated,
    sum(bytes_allocated) - sum(bytes_freed) AS bytes_left,
    sum(excess) AS excess,
    sum(red) AS red,
    sum(held) AS held
FROM done
GROUP BY test
ORDER BY test;
