-- Takes up one element that this worker had claimed before it was restarted.
-- KEYS  1 claimed:<worker>  2 lease:<worker>  3 workers  4 jobs  5 crashes  6 service  7 tombs
-- ARGV  1 worker  2 nonce  3 index in the claimed list  4 max bytes  5 bytes of an oversized element to return
--       6 '1': the process before ended in good order, so nothing of this counts as a crash
--       7 id that claimed.lua has listed there, '' for what names no job
-- Returns  none: the list has no such index | moved: another element is there by now | fenced, nonce | claim, … as claim.lua
-- Idempotent by the nonce: the same process resumes an element once. Each is a new attempt unless its outcome is stored.
local claimed, lease, workers, jobs, crashes, service_key, tombs = unpack(KEYS)
local worker, nonce, index, max, head, orderly = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'

local holder = redis.call('GET', lease)
if holder ~= nonce then return {'fenced', holder or ''} end
local payload = redis.call('LINDEX', claimed, index)
if not payload then return {'none'} end
redis.call('HLEN', workers)
local id, service
if #payload <= max then id, service = ids_of(payload) end
if ARGV[7] and ARGV[7] ~= (id or '') then return {'moved'} end
if #payload > max then
  return {'claim', string.sub(payload, 1, head), digits(#payload), '', '', '1', '0', 'too_large', ''}
end
local sha = redis.sha1hex(payload)
local counted = redis.call('HGET', crashes, sha)
local crash = crash_count(counted)
local rec = id and read_record(jobs, id)
local tomb = id and redis.call('ZSCORE', tombs, id)
local newest = service and redis.call('HGET', service_key, service)

local again = counted and string.sub(counted, -#nonce) == nonce
if rec then again = rec.resumed == nonce end
if not again and not orderly and not (rec and rec.outcome) then
  crash = crash + 1
  redis.call('HSET', crashes, sha, digits(crash) .. crash_marks(counted) .. ' ' .. nonce)
end
local fate, detail = 'build', ''
if crash >= 3 then
  fate, detail = 'crashed', digits(crash)
elseif crash == 2 then
  fate, detail = 'alone', digits(crash)
end
if not id then
  return {'claim', payload, digits(#payload), '', service or '', digits(crash + 1), '0', fate, detail}
end

if not rec or rec.ended_at then
  -- its record is gone, but the claim stands: the element decides
  local seq = string.match(newest or '', '^(%d+) ')
  rec = {attempt = rec and rec.attempt or 0, seq = digits(math.max(tonumber(seq or '0') + 1, now_us())), service = service}
end
if not again or rec.resumed ~= nonce then
  if not rec.outcome then rec.attempt = rec.attempt + 1 end
  rec.worker, rec.resumed = worker, nonce
  if tomb then rec.cancelled = true end
  write_record(jobs, id, rec)
end
local known, of_it = decided(rec)
if known then fate, detail = known, of_it end
return {'claim', payload, digits(#payload), id, service or '', digits(rec.attempt), rec.seq, fate, detail}
