-- What Redis knows of a deployment.
-- KEYS  1 jobs
-- ARGV  1 id
-- Returns  none | waiting, attempt | held, attempt, worker | ended, attempt
-- Reads only.
local rec = read_record(KEYS[1], ARGV[1])
if not rec then return {'none'} end
local attempt = digits(rec.attempt)
if rec.ended_at then return {'ended', attempt} end
if rec.worker == '' then return {'waiting', attempt} end
return {'held', attempt, rec.worker}
