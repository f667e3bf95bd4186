-- Asked before each post of a status or an end.
-- KEYS  1 jobs
-- ARGV  1 id  2 worker  3 attempt  4 seq  5 CANCELLED for a cancel  6 CANCELLED for a newer job (@@: its id)
--       7 '1': the caller knows that its end is CANCELLED
--       8 '1': an end is to be posted; 'refused': the dashboard has answered every post of the BUILDED with a refusal; else a status on
--         the way to the end
-- Returns  stored | cancelled | superseded, newer id | lost | missing: there is no record | nothing: no outcome is stored
--          | stands, outcome: it may have been seen, and no status may follow it
-- Idempotent: notes once that the end may from now on have been seen. A status on the way marks nothing: the end that is stored
-- behind it can still be voided. A refused BUILDED has no post under way until the caller asks for the next one, so a newer job may bar it.
local jobs = KEYS[1]
local id, ends, is_refused = ARGV[1], ARGV[8] == '1', ARGV[8] == 'refused'
local rec = read_record(jobs, id)
if not rec then return {'missing'} end
if not is_ours(rec, ARGV[2], ARGV[3], ARGV[4]) then return {'lost'} end
local why = voided(rec)
if why then
  store_void(rec, why, ARGV[5], ARGV[6])
  write_record(jobs, id, rec)
  if why == 'cancelled' then return {'cancelled'} end
  return {'superseded', rec.superseded_by}
end
if not rec.outcome then return {'nothing'} end
if rec.status == 'CANCELLED' and not (ends and ARGV[7] == '1') then
  -- the caller has not heard of it: the reply was lost; or it asks for what may not be told before a CANCELLED either
  if rec.superseded_by and not rec.cancelled then return {'superseded', rec.superseded_by} end
  return {'cancelled'}
end
if is_refused then
  if rec.posted and rec.status == 'BUILDED' and not rec.refused then
    rec.refused = true
    write_record(jobs, id, rec)
  end
  return {'stored'}
end
if not ends then
  if rec.posted then return {'stands', rec.outcome} end
  return {'stored'}
end
if not rec.posted or rec.refused then
  rec.posted, rec.builded, rec.refused = true, rec.builded or (rec.status == 'BUILDED') or nil, nil
  write_record(jobs, id, rec)
end
return {'stored'}
