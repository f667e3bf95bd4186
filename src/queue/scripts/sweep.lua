-- Removes what has stayed long enough and what nobody would remove any more, a part of it at each call.
-- KEYS  1 jobs  2 ended  3 service  4 tombs  5 crashes  6 crashed  7 queue  8 workers
-- ARGV  1 cursor in jobs  2 cursor in crashes, '0' at first  3 ms that an ended record stays  4 ms that a tombstone stays
--       5 ms that a crash counts  6 how many elements may have crashes  7 ms that a record may wait, and the keys of a queue that no worker serves stay
-- Returns  next cursor in jobs, next cursor in crashes ('0': from the beginning), then the ids of records that waited for an element that is gone
-- Idempotent.
--   key        what bounds it
--   jobs       a record ends with its job and stays for an hour, at most 10,000 of them; one that waits (given back, or of a dead worker)
--              for 30 days has lost its element: its queue was deleted by hand
--   ended      as the records;  service: removed with the newest job of the service
--   tombs      7 days, at most 100,000;  crashes, crashed: 7 days, at most 10,000
--   workers    removed by a clean stop, or by whoever takes over the last job;  claimed, incoming: by the jobs in them;  dead: 1,000
--   lease      30 s;  epoch: one value
local jobs, ended, service_key, tombs, crashes, crashed, queue, workers = unpack(KEYS)
local now = math.floor(now_us() / 1000)
local ended_stay, tomb_stay, crash_stay, most, idle = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
redis.call('LLEN', queue)
redis.call('HLEN', workers)
redis.call('HLEN', service_key)
redis.call('ZCARD', ended)
redis.call('ZCARD', tombs)
local old = redis.call('ZRANGEBYSCORE', crashed, '-inf', now - crash_stay, 'LIMIT', 0, 200)
local over = math.min(redis.call('ZCARD', crashed) - most, 200)
if over > #old then old = redis.call('ZRANGE', crashed, 0, over - 1) end
local records = redis.call('HSCAN', jobs, ARGV[1], 'COUNT', 200)
local counts = redis.call('HSCAN', crashes, ARGV[2], 'COUNT', 200)
local answer = {records[1], counts[1]}

local function remove(id)
  local parked = redis.call('HGET', jobs, id .. '/parked')
  redis.call('HDEL', jobs, id, id .. '/parked')
  redis.call('ZREM', ended, id)
  -- it was pushed, and would never be seen again
  if parked then redis.call('LPUSH', queue, parked) end
end
for i = 1, #records[2], 2 do
  local id = records[2][i]
  local rec = valid_id(id) and read_record(jobs, id)
  if rec and rec.ended_at and now - rec.ended_at > ended_stay then
    remove(id)
  elseif is_open(rec) and rec.worker == '' and now - tonumber(rec.seq) / 1000 > idle then
    leave_newest(jobs, service_key, id, rec)
    remove(id)
    answer[#answer + 1] = id
  end
end

redis.call('ZREMRANGEBYSCORE', tombs, '-inf', now - tomb_stay)
for _, sha in ipairs(old) do
  redis.call('HDEL', crashes, sha)
  redis.call('ZREM', crashed, sha)
end
for i = 1, #counts[2], 2 do
  local sha = counts[2][i]
  if redis.call('HEXISTS', crashes, sha) == 1 and not redis.call('ZSCORE', crashed, sha) then redis.call('ZADD', crashed, now, sha) end
end
for _, key in ipairs({jobs, ended, service_key, tombs, crashes, crashed, workers}) do redis.call('PEXPIRE', key, idle) end
return answer
