-- SPDX-License-Identifier: Apache-2.0
-- How many addresses of each memory have as many frees as allocations: what really happened, as `report` has it.
-- What an alias reports counts where its owner is; a buffer from before the recording was allocated once.

WITH changes AS (
    SELECT
        process,
        CASE WHEN verdict = 'alias-free' AND other IS NOT NULL THEN other_device ELSE device END AS device,
        CASE WHEN verdict = 'alias-free' AND other IS NOT NULL THEN other_buffer_type ELSE buffer_type END AS buffer_type,
        CASE WHEN verdict = 'alias-free' AND other IS NOT NULL THEN other_address ELSE address END AS address,
        CASE
            WHEN what IN ('alloc', 'found') THEN 1
            WHEN verdict IN ('pre-attach', 'inherited') AND ends AND NOT found THEN 1
            ELSE 0
        END AS allocations,
        CASE WHEN ends OR colour IN ('excess', 'red') THEN 1 ELSE 0 END AS frees
    FROM steps
    WHERE NOT phantom AND what <> 'alias'
        AND (verdict IS NULL OR verdict NOT IN ('held', 'failed', 'phantom', 'overlap'))
),
addresses AS (
    SELECT process, device, buffer_type, address, sum(allocations) AS allocations, sum(frees) AS frees
    FROM changes
    WHERE allocations + frees > 0
    GROUP BY process, device, buffer_type, address
)
SELECT
    process,
    device,
    buffer_type,
    count(*) AS addresses,
    sum(CASE WHEN frees = allocations THEN 1 ELSE 0 END) AS even,
    sum(CASE WHEN frees < allocations THEN 1 ELSE 0 END) AS not_freed,
    sum(CASE WHEN frees > allocations THEN 1 ELSE 0 END) AS freed_more
FROM addresses
GROUP BY process, device, buffer_type
ORDER BY process, device, buffer_type;
