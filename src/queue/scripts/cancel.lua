-- Cancels a deployment wherever it is. Used by whoever hears the channel, and by `slipway cancel`.
-- KEYS  1 queue  2 incoming  3 jobs  4 tombs
-- ARGV  1 id  2 ms that a tombstone stays  3 how many elements of the queue are looked through  4 how many tombstones stay
-- Returns  running, worker | queued | ended | unknown
-- Idempotent. Only the first one to set the tombstone looks through the queue (a search of a million elements would block Redis
-- for seconds, so never all); what is found goes to the head of `incoming`, where the next worker takes it as cancelled.
local queue, incoming, jobs, tombs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, stay, limit, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bytes = 33554432

redis.call('LLEN', queue)
local waiting = redis.call('LLEN', incoming)
local rec = read_record(jobs, id)

local function to_the_front()
  local found = find_by_id(incoming, id, math.min(waiting, limit), bytes)
  local from = incoming
  if not found then
    from = queue
    found = find_by_id(queue, id, limit, bytes)
  end
  if not found then return false end
  redis.call('LREM', from, 1, found)
  redis.call('LPUSH', incoming, found)
  return true
end

if is_open(rec) then
  local first = not rec.cancelled
  if first then
    rec.cancelled = true
    write_record(jobs, id, rec)
  end
  if rec.worker ~= '' then return {'running', rec.worker} end
  if first then to_the_front() end
  return {'queued'}
end
if rec then return {'ended'} end

local now = math.floor(now_us() / 1000)
local first = redis.call('ZADD', tombs, 'NX', now, id) == 1
redis.call('ZREMRANGEBYSCORE', tombs, '-inf', now - stay)
local over = redis.call('ZCARD', tombs) - most
if over > 0 then redis.call('ZREMRANGEBYRANK', tombs, 0, over - 1) end
if first then
  if to_the_front() then return {'queued'} end
elseif find_by_id(incoming, id, math.min(waiting, limit), bytes) then
  return {'queued'}
end
return {'unknown'}
