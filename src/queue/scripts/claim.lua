-- Takes the next jobs for a worker: from `incoming`, else from the head of the queue.
-- KEYS  1 queue  2 incoming  3 claimed:<worker>  4 lease:<worker>  5 workers  6 jobs  7 service  8 tombs  9 crashes  10 ended
-- ARGV  1 worker  2 nonce  3 token  4 max bytes  5 bytes of an oversized element to return
--       6 'next', or 'cancelled': only if the head of `incoming` is a job that was cancelled  7 the workers' own channel
--       8 how many at most
-- Returns  none | fenced, nonce in the lease | parked, id, worker that has it, '1' if it took the place of another
--          | for each job, in their order: claim, payload, its length, id, service, attempt, seq, fate, detail,
--            how many elements wait behind it, host and number of the attempt that ended there with a dead worker (or '', '');
--            without a number: the host whose worker gave the job back
--          fate: build | alone | cancelled | ended (outcome) | superseded (newer id) | crashed (count) | too_large
-- More than one only of plain jobs: of different services, small, and none that a worker died with.
-- Idempotent by the token: the same one again returns the same claims, so a lost reply loses no job. The caller has one call
-- under way at a time.
local queue, incoming, claimed, lease, workers, jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local service_key, tombs, crashes, ended = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local worker, nonce, token, max, head, mode = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local most, most_bytes = mode == 'next' and tonumber(ARGV[8]) or 1, 262144

local holder = redis.call('GET', lease)
if holder ~= nonce then return {'fenced', holder or ''} end

local came = redis.call('LLEN', incoming)
local behind = redis.call('LLEN', queue) + came
local crashed = redis.call('HLEN', crashes) > 0
local answer = {}

local function crashes_of(payload)
  return crashed and crash_count(redis.call('HGET', crashes, redis.sha1hex(payload))) or 0
end
local function by_crashes(crash)
  if crash >= 3 then return 'crashed', digits(crash) end
  if crash == 2 then return 'alone', digits(crash) end
  return 'build', ''
end
local function say(...)
  answer[#answer + 1] = 'claim'
  for _, field in ipairs({...}) do answer[#answer + 1] = field end
end
local function say_too_large(payload)
  say(string.sub(payload, 1, head), digits(#payload), '', '', '1', '0', 'too_large', '', '', '', '')
end
local function say_nameless(payload, service, crash)
  local fate, detail = by_crashes(crash)
  say(payload, digits(#payload), '', service or '', digits(crash + 1), '0', fate, detail, '', '', '')
end
local function say_job(payload, id, service, rec, waiting, crash)
  local fate, detail = decided(rec)
  if not fate then fate, detail = by_crashes(crash) end
  say(payload, digits(#payload), id, service or '', digits(rec.attempt), rec.seq, fate, detail, digits(waiting),
    rec.lost_on or rec.back_from or '', rec.lost_on and digits(rec.lost_attempt) or '')
end

-- what the last token claimed: the token, then id ('' for none) and attempt of each
local last = redis.call('HGET', workers, worker .. '/claim') or ''
if string.sub(last, 1, #token + 1) == token .. ' ' then
  local attempts, count = {}, 0
  for id, attempt in string.gmatch(string.sub(last, #token + 1), ' ([%w_-]*):(%d+)') do
    attempts[id], count = tonumber(attempt), count + 1
  end
  for at = -count, -1 do
    local payload = redis.call('LINDEX', claimed, at)
    local id, service
    if payload and #payload <= max then id, service = ids_of(payload) end
    if not payload or not attempts[id or ''] then
      -- it was given back, or taken over, before its claim could be told: then the end of the list is another one's
    elseif #payload > max then
      say_too_large(payload)
    elseif not id then
      say_nameless(payload, service, crashes_of(payload))
    else
      local rec = read_record(jobs, id)
      if is_open(rec) and rec.worker == worker and rec.attempt == attempts[id] then
        say_job(payload, id, service, rec, behind, crashes_of(payload))
      end
    end
  end
  if #answer == 0 then return {'none'} end
  return answer
end

local function take(taken)
  local names = token
  for _, t in ipairs(taken) do
    redis.call('LMOVE', t.source, claimed, 'LEFT', 'RIGHT')
    names = names .. ' ' .. (t.id or '') .. ':' .. digits(t.rec and t.rec.attempt or 1)
  end
  redis.call('HSET', workers, worker .. '/claim', names)
end

local now = now_us()
local now_ms = math.floor(now / 1000)
local function may_still_post(r)
  return is_open(r) or (r and r.hold_until and r.hold_until > now_ms)
end

-- what is to be written for a job that is claimed
local function plan(source, payload, id, service, rec, tomb)
  local t = {source = source, payload = payload, id = id, service = service, was_ended = rec and rec.ended_at}
  if t.was_ended then
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

  if service and not rec.cancelled and not rec.outcome then
    -- a record that somebody removed by hand takes no job's place
    if newest_id and newest_id ~= id and newest_seq > tonumber(rec.seq) and is_open(read_record(jobs, newest_id)) then
      rec.superseded_by = rec.superseded_by or newest_id
    else
      t.takes_the_lead = true
      if newest_id and newest_id ~= id then
        t.older_id, t.older = newest_id, read_record(jobs, newest_id)
      end
    end
  end
  if may_still_post(t.older) then
    local after = {t.older_id}
    for _, other in ipairs(t.older.after or {}) do
      if other ~= id and #after < 64 and may_still_post(read_record(jobs, other)) then after[#after + 1] = other end
    end
    rec.after = after
  end
  t.rec = rec
  return t
end

local taken, services, ids, bytes = {}, {}, {}, 0
while #taken < most do
  local source, at = incoming, #taken
  if at >= came then
    if mode == 'cancelled' then break end
    source, at = queue, at - came
  end
  local payload = redis.call('LINDEX', source, at)
  if not payload then break end
  local more = #taken > 0
  bytes = bytes + #payload
  if more and (#payload > max or bytes > most_bytes) then break end
  local crash = #payload <= max and crashes_of(payload) or 0
  if crash > 0 then
    if more then break end
    most = 1
  end

  local id, service
  if #payload <= max then id, service = ids_of(payload) end
  if not id then
    if more then break end
    if mode == 'cancelled' then return {'none'} end
    take({{source = source}})
    if #payload > max then say_too_large(payload) else say_nameless(payload, service, crash) end
    return answer
  end
  if ids[id] or (service and services[service]) then break end
  ids[id] = true
  if service then services[service] = true end

  local rec, tomb = read_record(jobs, id), redis.call('ZSCORE', tombs, id)
  if mode == 'cancelled' and not (tomb or (is_open(rec) and rec.cancelled)) then return {'none'} end
  if is_open(rec) and rec.worker ~= '' then
    if more then break end
    -- the same deployment again while it is in work: it waits in the record
    redis.call('LPOP', source)
    local replaced = redis.call('HEXISTS', jobs, id .. '/parked')
    redis.call('HSET', jobs, id .. '/parked', payload)
    return {'parked', id, rec.worker, replaced == 1 and '1' or ''}
  end
  local t = plan(source, payload, id, service, rec, tomb)
  -- the record of an earlier one is not written yet
  if t.older_id and ids[t.older_id] then break end
  t.crash = crash
  taken[#taken + 1] = t
end
if #taken == 0 then return {'none'} end

take(taken)
for n, t in ipairs(taken) do
  if t.was_ended then redis.call('ZREM', ended, t.id) end
  if t.takes_the_lead then
    redis.call('HSET', service_key, t.service, t.rec.seq .. ' ' .. t.id)
    if is_open(t.older) and not t.older.superseded_by then
      t.older.superseded_by = t.id
      write_record(jobs, t.older_id, t.older)
      -- the older one's owner looks at its flags now; without the right to publish it sees them at its next renewal
      redis.pcall('PUBLISH', ARGV[7], t.older_id)
    end
  end
  write_record(jobs, t.id, t.rec)
  say_job(t.payload, t.id, t.service, t.rec, behind - n, t.crash)
end
return answer
