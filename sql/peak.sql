-- SPDX-License-Identifier: Apache-2.0
-- Most bytes that were live at once in each memory, of what was allocated in the recording or found live, and when that was.

WITH changes AS (
    SELECT
        process, device, buffer_type, entry, time, test,
        CASE
            WHEN what IN ('alloc', 'found') THEN bytes
            WHEN ends AND (allocated IS NOT NULL OR found) THEN -bytes
            ELSE 0
        END AS change
    FROM steps
    WHERE NOT phantom AND what <> 'alias'
        AND (verdict IS NULL OR verdict NOT IN ('held', 'failed', 'phantom', 'overlap'))
),
levels AS (
    SELECT
        process, device, buffer_type, entry, time, test,
        sum(change) OVER (
            PARTITION BY process, device, buffer_type ORDER BY entry ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS bytes
    FROM changes
    WHERE change <> 0
),
ranked AS (
    SELECT
        process, device, buffer_type, time, test, bytes,
        row_number() OVER (PARTITION BY process, device, buffer_type ORDER BY bytes DESC, entry) AS position
    FROM levels
)
SELECT process, device, buffer_type, bytes AS peak_bytes, time AS peak_time, test AS peak_test
FROM ranked
WHERE position = 1
ORDER BY process, device, buffer_type;
