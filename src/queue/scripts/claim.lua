-- Takes the next job for a worker: from `incoming`, else from the head of the queue.
-- KEYS  1 queue  2 incoming  3 claimed:<worker>  4 lease:<worker>  5 workers  6 jobs  7 service  8 tombs  9 crashes  10 ended
-- ARGV  1 worker  2 nonce  3 token  4 max bytes  5 bytes of an oversized element to return
--       6 'next', or 'cancelled': only if the head of `incoming` is a job that was cancelled  7 the workers' own channel
-- Returns  none | fenced, nonce in the lease | parked, id, worker that has it, '1' if it took the place of another
--          | claim, payload, its length, id, service, attempt, seq, fate, detail, how many elements wait behind it,
--            host and number of the attempt that ended there with a dead worker (or '', '')
--          fate: build | alone | cancelled | ended (outcome) | superseded (newer id) | crashed (count) | too_large
-- Idempotent by the token: the same one again returns the same claim, so a lost reply loses no job. The caller has one claim
-- under way at a time.
local queue, incoming, claimed, lease, workers, jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local service_key, tombs, crashes, ended = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local worker, nonce, token, max, head, mode = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

local holder = redis.call('GET', lease)
if holder ~= nonce then return {'fenced', holder or ''} end

-- what the last token claimed: the token, the id ('' for none), the attempt
local last_token, last_id, last_attempt = string.match(redis.call('HGET', workers, worker .. '/claim') or '', '^(%S+) (%S*) (%d+)$')
local replay = last_token == token
local source, payload
local behind = redis.call('LLEN', queue) + redis.call('LLEN', incoming)
if replay then
  payload = redis.call('LINDEX', claimed, -1)
else
  redis.call('LLEN', claimed)
  source = incoming
  payload = redis.call('LINDEX', incoming, 0)
  if not payload and mode == 'next' then
    source = queue
    payload = redis.call('LINDEX', queue, 0)
  end
  behind = behind - 1
end
if not payload then return {'none'} end

local function take(id, attempt)
  redis.call('LMOVE', source, claimed, 'LEFT', 'RIGHT')
  redis.call('HSET', workers, worker .. '/claim', token .. ' ' .. id .. ' ' .. digits(attempt))
end

if #payload > max then
  if mode == 'cancelled' then return {'none'} end
  if replay and last_id ~= '' then return {'none'} end
  if not replay then take('', 1) end
  return {'claim', string.sub(payload, 1, head), digits(#payload), '', '', '1', '0', 'too_large', ''}
end

local crash = 0
if redis.call('HLEN', crashes) > 0 then
  crash = crash_count(redis.call('HGET', crashes, redis.sha1hex(payload)))
end
local function by_crashes()
  if crash >= 3 then return 'crashed', digits(crash) end
  if crash == 2 then return 'alone', digits(crash) end
  return 'build', ''
end

local id, service = ids_of(payload)
if not id then
  if mode == 'cancelled' then return {'none'} end
  if replay and last_id ~= '' then return {'none'} end
  if not replay then take('', 1) end
  local fate, detail = by_crashes()
  return {'claim', payload, digits(#payload), '', service or '', digits(crash + 1), '0', fate, detail}
end

local function reply(rec)
  local fate, detail = decided(rec)
  if not fate then fate, detail = by_crashes() end
  return {'claim', payload, digits(#payload), id, service or '', digits(rec.attempt), rec.seq, fate, detail, digits(behind),
    rec.lost_on or '', rec.lost_on and digits(rec.lost_attempt) or ''}
end

local rec = read_record(jobs, id)
if replay then
  -- it was given back, or taken over, before its claim could be told: then the end of the list is another one's
  if last_id ~= id or not is_open(rec) or rec.worker ~= worker or rec.attempt ~= tonumber(last_attempt) then return {'none'} end
  return reply(rec)
end

local tomb = redis.call('ZSCORE', tombs, id)
if mode == 'cancelled' and not (tomb or (is_open(rec) and rec.cancelled)) then return {'none'} end

if is_open(rec) and rec.worker ~= '' then
  -- the same deployment again while it is in work: it waits in the record
  redis.call('LPOP', source)
  local replaced = redis.call('HEXISTS', jobs, id .. '/parked')
  redis.call('HSET', jobs, id .. '/parked', payload)
  return {'parked', id, rec.worker, replaced == 1 and '1' or ''}
end

local now = now_us()
local was_ended = rec and rec.ended_at
if was_ended then
  -- pushed again after its end: a new job; only the attempt goes on counting, because image tags and journals are named by it
  redis.call('ZSCORE', ended, id)
  rec = {attempt = rec.attempt, hold_until = rec.hold_until}
end
rec = rec or {attempt = 0}
rec.worker, rec.attempt, rec.service, rec.resumed = worker, rec.attempt + 1, service, nonce
if tomb then rec.cancelled = true end

local newest = service and redis.call('HGET', service_key, service)
local newest_seq, newest_id = string.match(newest or '', '^(%d+) (.+)$')
newest_seq = tonumber(newest_seq or '0')
rec.seq = rec.seq or digits(math.max(newest_seq + 1, now))

local older_id, older, takes_the_lead
if service and not rec.cancelled and not rec.outcome then
  -- a record that somebody removed by hand takes no job's place
  if newest_id and newest_id ~= id and newest_seq > tonumber(rec.seq) and is_open(read_record(jobs, newest_id)) then
    rec.superseded_by = rec.superseded_by or newest_id
  else
    takes_the_lead = true
    if newest_id and newest_id ~= id then
      older_id, older = newest_id, read_record(jobs, newest_id)
    end
  end
end

local now_ms = math.floor(now / 1000)
local function may_still_post(r)
  return is_open(r) or (r and r.hold_until and r.hold_until > now_ms)
end
if may_still_post(older) then
  local after = {older_id}
  for _, other in ipairs(older.after or {}) do
    if other ~= id and #after < 64 and may_still_post(read_record(jobs, other)) then after[#after + 1] = other end
  end
  rec.after = after
end

take(id, rec.attempt)
if was_ended then redis.call('ZREM', ended, id) end
if takes_the_lead then
  redis.call('HSET', service_key, service, rec.seq .. ' ' .. id)
  if is_open(older) and not older.superseded_by then
    older.superseded_by = id
    write_record(jobs, older_id, older)
    -- the older one's owner looks at its flags now; without the right to publish it sees them at its next renewal
    redis.pcall('PUBLISH', ARGV[7], older_id)
  end
end
write_record(jobs, id, rec)
return reply(rec)
