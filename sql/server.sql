-- SPDX-License-Identifier: Apache-2.0
-- The same as a server would count that keeps a log of the graph trackers' reports, and knows a buffer by the number of
-- its device and its address alone. One server a trace.

SELECT
    source,
    device,
    count(*) AS addresses,
    sum(CASE WHEN frees = allocations THEN 1 ELSE 0 END) AS even,
    sum(CASE WHEN frees < allocations THEN 1 ELSE 0 END) AS not_freed,
    sum(CASE WHEN frees > allocations THEN 1 ELSE 0 END) AS freed_more,
    sum(unknown) AS unknown,
    sum(CASE WHEN frees > allocations THEN frees - allocations ELSE 0 END) AS excess
FROM reported
GROUP BY source, device
ORDER BY source, device;
