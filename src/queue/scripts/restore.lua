-- Writes an attempt again that Redis has forgotten (it came back empty, or from an older snapshot).
-- KEYS  1 claimed:<worker>  2 lease:<worker>  3 jobs  4 service  5 tombs  6 queue  7 incoming
-- ARGV  1 worker  2 nonce  3 id  4 attempt  5 seq  6 service or ''  7 payload or ''  8 outcome or ''  9 its status  10 '1': retry
-- Returns  fenced | kept: its record is there | lost: somebody else's by now, or over | restored
-- Idempotent.
local claimed, lease, jobs, service_key, tombs, queue, incoming = unpack(KEYS)
local worker, nonce, id, attempt, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('GET', lease) ~= nonce then return {'fenced'} end
redis.call('LLEN', claimed)
redis.call('LLEN', queue)
redis.call('LLEN', incoming)
local tomb = redis.call('ZSCORE', tombs, id)
local newest = redis.call('HGET', service_key, ARGV[6])
local rec = read_record(jobs, id)
local newest_seq, newest_id = string.match(newest or '', '^(%d+) (.+)$')
local newer = newest_id and newest_id ~= id and tonumber(newest_seq) > tonumber(seq) and read_record(jobs, newest_id)
if is_ours(rec, worker, attempt, seq) then return {'kept'} end
if is_open(rec) and rec.worker == worker and rec.attempt < tonumber(attempt) then
  -- an older snapshot: the record is ours, as it was some attempts ago, and so is its element
  rec.attempt, rec.seq = tonumber(attempt), seq
  write_record(jobs, id, rec)
  return {'restored'}
end
if rec then return {'lost'} end
rec = {worker = worker, attempt = tonumber(attempt), seq = seq}
if tomb then rec.cancelled = true end
if ARGV[8] ~= '' then
  -- it may have been sent before Redis forgot it
  rec.outcome, rec.status, rec.retry, rec.posted = ARGV[8], ARGV[9], ARGV[10] == '1' or nil, true
  rec.builded = ARGV[9] ~= 'FAILED' or nil
end
if ARGV[6] ~= '' then
  rec.service = ARGV[6]
  -- as at a claim: what is over, or was removed by hand, takes no job's place
  if newer and is_open(newer) then
    rec.superseded_by = newest_id
  else
    redis.call('HSET', service_key, rec.service, seq .. ' ' .. id)
  end
end
write_record(jobs, id, rec)
if ARGV[7] ~= '' then
  -- the snapshot may be of a moment before it was taken: then it lies in the queue again, near the head
  if redis.call('LREM', incoming, 1, ARGV[7]) == 0 then redis.call('LREM', queue, 1, ARGV[7]) end
  redis.call('RPUSH', claimed, ARGV[7])
end
return {'restored'}
