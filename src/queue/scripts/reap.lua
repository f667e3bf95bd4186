-- Takes the jobs of a dead worker and puts them at the head of the queue, in their order.
-- KEYS  1 queue  2 claimed:<dead>  3 lease:<dead>  4 lease:<worker>  5 workers  6 jobs  7 crashes
-- ARGV  1 nonce of the caller  2 dead worker  3 its host, for people  4 the HTTP time-out in ms  5 how many at most
--       6 '1': it ended in good order, so nothing of this counts as a crash  7 nonce of the process that held the lease, or ''
-- Returns  fenced | alive | taken, '1' if more are left, then for each job its id ('' for what is no job) and attempt
-- Idempotent: what was moved is not there any more.
local queue, claimed, lease, own, workers, jobs, crashes = unpack(KEYS)
local nonce, dead, host, http, limit, orderly = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
-- whether it is dead cannot be seen from here: a process that was only cut off takes its count back (uncount.lua)
local mark = ARGV[7] ~= '' and ' lost:' .. ARGV[7] or ''
if redis.call('GET', own) ~= nonce then return {'fenced'} end
if redis.call('EXISTS', lease) == 1 then return {'alive'} end
redis.call('LLEN', queue)
redis.call('HLEN', workers)
redis.call('HLEN', jobs)
redis.call('HLEN', crashes)
local now = math.floor(now_us() / 1000)
local answer, seen = {'taken', ''}, 0
-- one call blocks Redis no longer than 8 MiB and one element take; no build was made of what is larger than 16 MiB, and none crashed by it
for _ = 1, limit do
  if seen > 8388608 then break end
  local payload = redis.call('LINDEX', claimed, -1)
  if not payload then break end
  seen = seen + #payload
  local id, rec
  if #payload <= 16777216 then id = ids_of(payload) end
  if id then rec = read_record(jobs, id) end
  if rec and rec.worker ~= dead then
    -- it ended, or is somebody else's: what lies here is left over
    redis.call('RPOP', claimed)
  else
    redis.call('LMOVE', claimed, queue, 'RIGHT', 'LEFT')
    if not orderly and #payload <= 16777216 and not (rec and rec.outcome) then
      local sha = redis.sha1hex(payload)
      local counted = redis.call('HGET', crashes, sha)
      redis.call('HSET', crashes, sha, digits(crash_count(counted) + 1) .. crash_marks(counted) .. mark)
    end
    if rec then
      rec.worker, rec.lost_on, rec.lost_attempt, rec.back_from = '', host, rec.attempt, nil
      rec.hold_until = now + http
      write_record(jobs, id, rec)
    end
    answer[#answer + 1] = id or ''
    answer[#answer + 1] = digits(rec and rec.attempt or 0)
  end
end
if redis.call('LLEN', claimed) > 0 then answer[2] = '1' end
return answer
