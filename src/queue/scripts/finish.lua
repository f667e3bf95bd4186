-- Removes a job: its end was delivered (acknowledge), or it is given up (dead letter, with a note).
-- KEYS  1 claimed:<worker>  2 jobs  3 queue  4 crashes  5 service  6 ended  7 dead
-- ARGV  1 id or ''  2 worker  3 attempt  4 seq  5 payload or its beginning  6 its length  7 note or ''  8 length of the dead letter list
--       9 ms that an ended record stays  10 how many ended records stay
--       11 '1': the job is to be removed also without a record
-- Returns  cancelled: a cancel met the BUILDED on its way, so CANCELLED is to follow, and nothing was removed
--          | done | again: it was done before | lost | missing: there is no record | parked_runs: a second push of the id goes to the head of the queue
--          | parked_dropped
-- Idempotent by the record; without an id by the element itself (equal elements are interchangeable).
-- The claimed list is what is written first: where it is of a wrong type nothing is done.
local claimed, jobs, queue, crashes, service_key, ended, dead = unpack(KEYS)
local id, worker, attempt, seq, payload, size = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local note, keep, stay, most = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local crashed = redis.call('HLEN', crashes) > 0
if note ~= '' then redis.call('LLEN', dead) end

local function bury()
  if note ~= '' then
    redis.call('LPUSH', dead, note)
    redis.call('LTRIM', dead, 0, keep - 1)
  end
end
local function forget_crashes()
  if crashed and #payload == size then redis.call('HDEL', crashes, redis.sha1hex(payload)) end
end

if id == '' then
  if remove_claim(claimed, payload, size) == 0 then return {'again'} end
  forget_crashes()
  bury()
  return {'done'}
end

local rec = read_record(jobs, id)
if not rec then
  if ARGV[11] ~= '1' then return {'missing'} end
  remove_claim(claimed, payload, size)
  forget_crashes()
  bury()
  return {'done'}
end
if not is_ours(rec, worker, attempt, seq) then
  if rec and rec.ended_at and rec.worker == worker and rec.attempt == tonumber(attempt) and rec.seq == seq then return {'again'} end
  return {'lost'}
end
-- the cancel was answered with `running`, but its notice came too late for who posted BUILDED. A newer job is no such case: the
-- image may be deployed by now, and its own follows.
if note == '' and rec.status == 'BUILDED' and rec.cancelled then return {'cancelled'} end
local parked = redis.call('HGET', jobs, id .. '/parked')
if parked then redis.call('LLEN', queue) end
local others = redis.call('ZCARD', ended)
redis.call('HLEN', service_key)

remove_claim(claimed, payload, size)
forget_crashes()
bury()
local answer = 'done'
if parked then
  redis.call('HDEL', jobs, id .. '/parked')
  answer = 'parked_dropped'
  if note ~= '' or (rec.status == 'FAILED' and rec.retry) then
    redis.call('LPUSH', queue, parked)
    answer = 'parked_runs'
  end
end
-- older ones carry their flag already: the newest place is only needed while its job goes on
leave_newest(jobs, service_key, id, rec)

local now = math.floor(now_us() / 1000)
write_record(jobs, id, {worker = worker, attempt = rec.attempt, seq = seq, status = rec.status, hold_until = rec.hold_until, ended_at = now})
redis.call('ZADD', ended, now, id)

-- one in so many looks for records that have stayed long enough
if others % 16 == 0 then
  local old = redis.call('ZRANGEBYSCORE', ended, '-inf', now - stay, 'LIMIT', 0, 32)
  local over = math.min(others + 1 - most, 32)
  if over > #old then old = redis.call('ZRANGE', ended, 0, over - 1) end
  if #old > 0 then
    local gone = {}
    for _, other in ipairs(old) do
      local r = read_record(jobs, other)
      if r and r.ended_at then gone[#gone + 1] = other end
    end
    redis.call('ZREM', ended, unpack(old))
    if #gone > 0 then redis.call('HDEL', jobs, unpack(gone)) end
  end
end
return {answer}
