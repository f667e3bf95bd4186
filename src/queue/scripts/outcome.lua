-- Stores the end of an attempt, if it is still the caller's and nothing came first.
-- KEYS  1 jobs  2 lease of the worker named in ARGV 9
-- ARGV  1 id  2 worker  3 attempt  4 seq  5 outcome  6 its status  7 '1' for an infrastructure failure
--       8 the HTTP time-out in ms  9 worker that is believed to hold up this outcome, or ''
--       10 CANCELLED for a cancel  11 CANCELLED for a newer job (@@: its id)
--       12 ms that a BUILDED waits for older ones at most
-- Returns  stored | cancelled | superseded, newer id | lost | missing: there is no record | stands, outcome: another end, which may have been seen | wait, older id, its worker
-- Idempotent. BUILDED of a newer job waits until every older attempt of the service is closed, or its lease is gone plus one
-- HTTP time-out: a BUILDED of the older one may still be on the way to the dashboard. It does not wait for an older one whose end
-- is FAILED or CANCELLED and which never posted a BUILDED. After the bound the older one is barred: it posts no BUILDED any more,
-- and one that is on its way has one HTTP time-out. One that is passed because its worker is gone is barred too. One that the dashboard refuses is barred at once: none is on its way.
local jobs, lease = KEYS[1], KEYS[2]
local id, worker, attempt, seq, outcome, status = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local retry, http, suspect, bound = ARGV[7] == '1', tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[12])

-- its end is no BUILDED, and it never posted one
local function is_settled(r)
  return r and r.outcome and r.status ~= 'BUILDED' and not r.builded
end

local rec = read_record(jobs, id)
if not rec then return {'missing'} end
if not is_ours(rec, worker, attempt, seq) then return {'lost'} end

local why = voided(rec)
if why and status ~= 'CANCELLED' then
  store_void(rec, why, ARGV[10], ARGV[11])
  write_record(jobs, id, rec)
  if why == 'cancelled' then return {'cancelled'} end
  return {'superseded', rec.superseded_by}
end
if rec.outcome == outcome then return {'stored'} end
if rec.status == 'CANCELLED' and status ~= 'CANCELLED' then
  -- the caller has not heard of it: the reply was lost
  if rec.superseded_by and not rec.cancelled then return {'superseded', rec.superseded_by} end
  return {'cancelled'}
end
-- a CANCELLED may follow a BUILDED (its caller saw a cancel, though a Redis that came back may have forgotten it), or take another
-- one's words; any other end that may have been seen stands
if rec.posted and not (status == 'CANCELLED' and rec.status ~= 'FAILED') then return {'stands', rec.outcome} end

if status == 'BUILDED' and rec.after then
  local now, suspect_gone = math.floor(now_us() / 1000), redis.call('EXISTS', lease) == 0
  local passed = {}
  local blocker
  local too_long = rec.waits_since and now - rec.waits_since > bound
  for _, other in ipairs(rec.after) do
    local older = read_record(jobs, other)
    local waits = older and older.hold_until and older.hold_until > now and not is_settled(older)
    if is_settled(older) or (older and older.barred) then
      -- it posts no BUILDED; one that was on its way when it was barred is waited for by hold_until
    elseif is_open(older) and older.worker ~= '' then
      waits = true
      local is_refused = older.refused and older.status == 'BUILDED'
      if (too_long or is_refused) and not older.barred then
        older.barred, older.superseded_by = true, older.superseded_by or id
        older.hold_until = math.max(older.hold_until or 0, is_refused and 0 or now + http)
        write_record(jobs, other, older)
      end
      if older.worker == suspect and suspect_gone then
        if not older.hold_until then
          older.hold_until = now + http
          write_record(jobs, other, older)
        end
        waits = older.hold_until > now
      end
    end
    if waits then
      blocker = blocker or {'wait', other, older.worker}
    elseif is_open(older) and not older.barred and not is_settled(older) then
      passed[other] = older
    end
  end
  if blocker then
    if not rec.waits_since then
      rec.waits_since = now
      write_record(jobs, id, rec)
    end
    return blocker
  end
  -- passed while nobody has it, or its worker is gone: whoever takes it up tells CANCELLED, and no BUILDED behind this one
  for other, older in pairs(passed) do
    older.barred, older.superseded_by = true, older.superseded_by or id
    write_record(jobs, other, older)
  end
  rec.after, rec.waits_since = nil, nil
end

rec.outcome, rec.status, rec.retry, rec.posted = outcome, status, retry or nil, nil
write_record(jobs, id, rec)
return {'stored'}
