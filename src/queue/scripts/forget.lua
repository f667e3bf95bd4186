-- Forgets a dead worker whose jobs were all taken: records of it without an element anywhere, then its entry in the registry.
-- KEYS  1 queue  2 claimed:<dead>  3 lease:<dead>  4 lease:<worker>  5 workers  6 jobs  7 service
-- ARGV  1 nonce of the caller  2 dead worker  3 cursor of the scan, '0' at first
-- Returns  fenced | alive | next cursor ('0': done), then the ids whose record had no element
-- Idempotent. A record without an element would make every later push of its id wait for an end that never comes, and as the
-- newest of its service it would take the place of jobs that wait.
local queue, claimed, lease, own, workers, jobs, service_key = unpack(KEYS)
local nonce, dead, cursor = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', own) ~= nonce then return {'fenced'} end
if redis.call('EXISTS', lease) == 1 or redis.call('LLEN', claimed) > 0 then return {'alive'} end
redis.call('LLEN', queue)
redis.call('HLEN', service_key)
local scan = redis.call('HSCAN', jobs, cursor, 'COUNT', 200)
local answer = {scan[1]}
for i = 1, #scan[2], 2 do
  local id = scan[2][i]
  if valid_id(id) then
    local rec = read_record(jobs, id)
    if is_open(rec) and rec.worker == dead then
      local parked = redis.call('HGET', jobs, id .. '/parked')
      leave_newest(jobs, service_key, id, rec)
      redis.call('HDEL', jobs, id, id .. '/parked')
      if parked then redis.call('LPUSH', queue, parked) end
      answer[#answer + 1] = id
    end
  end
end
if scan[1] == '0' then redis.call('HDEL', workers, dead, dead .. '/claim') end
return answer
