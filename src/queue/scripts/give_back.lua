-- Puts a job back to the head of the queue.
-- KEYS  1 queue  2 claimed:<worker>  3 jobs
-- ARGV  1 id or ''  2 worker  3 attempt  4 seq  5 payload or its beginning  6 its length  7 '1': also without a record
--       8 the worker's host, for people
-- Returns  1: it is in the queue again (also when it was already) | 0: it was not the caller's any more | missing: there is no record
-- Idempotent. Attempt, order and flags stay in the record; without an id a repeated call finds nothing to move.
local queue, claimed, jobs, host = KEYS[1], KEYS[2], KEYS[3], ARGV[8] or ''
local id, worker, attempt, seq, payload, size = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
redis.call('LLEN', queue)
redis.call('LLEN', claimed)
local rec
if id ~= '' then
  rec = read_record(jobs, id)
  if not rec and ARGV[7] ~= '1' then return 'missing' end
  if rec and is_open(rec) and rec.worker == '' and rec.attempt == tonumber(attempt) and rec.seq == seq then return 1 end
  if rec and not is_ours(rec, worker, attempt, seq) then return 0 end
end
local whole = payload
if #payload ~= size then
  whole = nil
  for i = redis.call('LLEN', claimed) - 1, 0, -1 do
    local element = redis.call('LINDEX', claimed, i)
    if #element == size and string.sub(element, 1, #payload) == payload then whole = element break end
  end
  if not whole then return 0 end
end
if redis.call('LREM', claimed, -1, whole) == 0 and not rec then return 0 end
redis.call('LPUSH', queue, whole)
if rec then
  rec.worker, rec.lost_on, rec.lost_attempt, rec.back_from = '', nil, nil, host ~= '' and host or nil
  write_record(jobs, id, rec)
end
return 1
