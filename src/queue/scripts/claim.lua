-- Takes the next job for a worker: from `incoming`, else from the head of the queue.
-- KEYS  1 queue  2 incoming  3 claimed:<worker>  4 lease:<worker>  5 workers  6 jobs  7 service  8 tombs  9 crashes  10 ended
-- ARGV  1 worker  2 nonce  3 token  4 max bytes  5 bytes of an oversized element to return
--       6 'next', or 'cancelled': only if the head of `incoming` is a job that was cancelled  7 the workers' own channel
-- Returns  none | fenced, nonce in the lease | parked, id, worker that has it, '1' if it took the place of another
--          | claim, payload, its length, id, service, attempt, seq, fate, detail,
--            how many elements wait behind it, host and number of the attempt that ended there with a dead worker (or '', '');
--            without a number: the host whose worker gave the job back
--          fate: build | alone | cancelled | ended (outcome) | superseded (newer id) | crashed (count) | too_large
-- Idempotent by the token: the same one again returns the same claim, so a lost reply loses no job. The caller has one call
-- under way at a time.
local queue, incoming, claimed, lease, workers, jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local service_key, tombs, crashes, ended = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local worker, nonce, token, max, head, mode = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

local holder = redis.call('GET', lease)
if holder ~= nonce then return {'fenced', holder or ''} end

local behind = redis.call('LLEN', incoming) + redis.call('LLEN', queue)
local crashed = redis.call('HLEN', crashes) > 0
local function crashes_of(payload)
  return crashed and crash_count(redis.call('HGET', crashes, redis.sha1hex(payload))) or 0
end
local function by_crashes(crash)
  if crash >= 3 then return 'crashed', digits(crash) end
  if crash == 2 then return 'alone', digits(crash) end
  return 'build', ''
end
local function too_large(payload)
  return {'claim', string.sub(payload, 1, head), digits(#payload), '', '', '1', '0', 'too_large', '', '', '', ''}
end
local function nameless(payload, service)
  local crash = crashes_of(payload)
  local fate, detail = by_crashes(crash)
  return {'claim', payload, digits(#payload), '', service or '', digits(crash + 1), '0', fate, detail, '', '', ''}
end
local function job(payload, id, service, rec, waiting)
  local fate, detail = decided(rec)
  if not fate then fate, detail = by_crashes(crashes_of(payload)) end
  return {'claim', payload, digits(#payload), id, service or '', digits(rec.attempt), rec.seq, fate, detail, digits(waiting),
    rec.lost_on or rec.back_from or '', rec.lost_on and digits(rec.lost_attempt) or ''}
end

-- what the last token claimed: the token, then id ('' for none) and attempt
local last = redis.call('HGET', workers, worker .. '/claim') or ''
if string.sub(last, 1, #token + 1) == token .. ' ' then
  local last_id, attempt = string.match(string.sub(last, #token + 2), '^([%w_-]*):(%d+)$')
  local payload = redis.call('LINDEX', claimed, -1)
  local id, service
  if payload and #payload <= max then id, service = ids_of(payload) end
  -- another one: it was given back, or taken over, before its claim could be told, and the end of the list is not its place any more
  if not payload or (id or '') ~= last_id then return {'none'} end
  if #payload > max then return too_large(payload) end
  if not id then return nameless(payload, service) end
  local rec = read_record(jobs, id)
  if is_open(rec) and rec.worker == worker and rec.attempt == tonumber(attempt) then return job(payload, id, service, rec, behind) end
  return {'none'}
end

local function take(source, id, attempt)
  redis.call('LMOVE', source, claimed, 'LEFT', 'RIGHT')
  redis.call('HSET', workers, worker .. '/claim', token .. ' ' .. id .. ':' .. digits(attempt))
end

local source = incoming
local payload = redis.call('LINDEX', incoming, 0)
if not payload and mode == 'next' then
  source, payload = queue, redis.call('LINDEX', queue, 0)
end
if not payload then return {'none'} end

local id, service
if #payload <= max then id, service = ids_of(payload) end
if not id then
  if mode == 'cancelled' then return {'none'} end
  take(source, '', 1)
  return #payload > max and too_large(payload) or nameless(payload, service)
end

local rec, tomb = read_record(jobs, id), redis.call('ZSCORE', tombs, id)
if mode == 'cancelled' and not (tomb or (is_open(rec) and rec.cancelled)) then return {'none'} end
if is_open(rec) and rec.worker ~= '' then
  -- the same deployment again while it is in work: it waits in the record
  redis.call('LPOP', source)
  local replaced = redis.call('HEXISTS', jobs, id .. '/parked')
  redis.call('HSET', jobs, id .. '/parked', payload)
  return {'parked', id, rec.worker, replaced == 1 and '1' or ''}
end

local now = now_us()
local now_ms = math.floor(now / 1000)
local function may_still_post(r)
  return is_open(r) or (r and r.hold_until and r.hold_until > now_ms)
end

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

local takes_the_lead, older
if service and not rec.cancelled and not rec.outcome then
  -- a record that somebody removed by hand takes no job's place
  if newest_id and newest_id ~= id and newest_seq > tonumber(rec.seq) and is_open(read_record(jobs, newest_id)) then
    rec.superseded_by = rec.superseded_by or newest_id
  else
    takes_the_lead = true
    if newest_id and newest_id ~= id then older = read_record(jobs, newest_id) end
  end
end
if may_still_post(older) then
  local after = {newest_id}
  for _, other in ipairs(older.after or {}) do
    if other ~= id and #after < 64 and may_still_post(read_record(jobs, other)) then after[#after + 1] = other end
  end
  rec.after = after
end

take(source, id, rec.attempt)
if was_ended then redis.call('ZREM', ended, id) end
if takes_the_lead then
  redis.call('HSET', service_key, service, rec.seq .. ' ' .. id)
  if is_open(older) and not older.superseded_by then
    older.superseded_by = id
    write_record(jobs, newest_id, older)
    -- the older one's owner looks at its flags now; without the right to publish it sees them at its next renewal
    redis.pcall('PUBLISH', ARGV[7], newest_id)
  end
end
write_record(jobs, id, rec)
return job(payload, id, service, rec, behind - 1)
