-- SPDX-License-Identifier: Apache-2.0
-- Frees beyond the allocations by the site that makes them, most first. `stack` is one of the site's; see `stacks`.

SELECT
    site,
    min(site_name) AS site_name,
    count(*) AS frees,
    sum(CASE WHEN certainty = 'possible' THEN 1 ELSE 0 END) AS possible,
    sum(bytes) AS bytes,
    min(time) AS first,
    sum(CASE WHEN verdict = 'repeat' THEN 1 ELSE 0 END) AS repeats,
    sum(CASE WHEN verdict = 'alias-free' THEN 1 ELSE 0 END) AS alias_frees,
    sum(CASE WHEN verdict = 'stale-free' THEN 1 ELSE 0 END) AS stale_frees,
    sum(CASE WHEN verdict = 'stolen-free' THEN 1 ELSE 0 END) AS stolen_frees,
    sum(CASE WHEN verdict = 'unmatched' THEN 1 ELSE 0 END) AS unmatched,
    count(DISTINCT test) AS tests,
    min(stack) AS stack,
    min(previous_stack) AS previous_stack,
    min(allocated_stack) AS allocated_stack
FROM steps
WHERE colour IN ('excess', 'red') AND verdict <> 'overlap'
GROUP BY site
ORDER BY frees DESC, first;
