-- SPDX-License-Identifier: Apache-2.0
-- What was not freed, by what ended (`exit` of the process, `exec` of another program, `close` of the device, `stop` of the recording, `source` of what was
-- imported) and the site of the allocation, most bytes first. Without a site: allocated before the recording, or in a gap.

WITH ended AS (
    SELECT
        CASE
            WHEN steps.verdict = 'bulk' THEN 'close'
            WHEN processes.reason IN ('exited', 'dead') THEN 'exit'
            WHEN processes.reason = 'executed' THEN 'exec'
            WHEN processes.origin IS NOT NULL THEN 'source'
            ELSE 'stop'
        END AS held_until,
        steps.allocated_site AS site,
        steps.bytes,
        steps.certainty,
        steps.allocated_stack,
        CASE WHEN processes.origin IS NULL THEN steps.time - steps.allocated END AS age
    FROM steps LEFT JOIN processes ON processes.process = steps.process
    WHERE steps.verdict IN ('held', 'bulk') AND steps.ends AND NOT steps.phantom
)
SELECT
    held_until,
    site,
    count(*) AS buffers,
    sum(CASE WHEN certainty = 'possible' THEN 1 ELSE 0 END) AS possible,
    sum(bytes) AS bytes,
    max(age) AS oldest,
    min(age) AS youngest,
    min(allocated_stack) AS stack
FROM ended
GROUP BY held_until, site
ORDER BY bytes DESC, site;
