-- Gives an element that Redis' JSON cannot read a record, under the id that the worker read from it.
-- KEYS  1 jobs  2 lease:<worker>  3 queue  4 incoming
-- ARGV  1 worker  2 nonce  3 id  4 how many elements that wait are looked through  5 how many bytes of them
-- Returns  fenced, nonce | taken: the deployment has a record of its own, or a whole element of it waits | ours, attempt, seq
-- Idempotent: an adopted record is given again. It is taken over from a worker that adopted another copy: both tell the same end,
-- and the fence lets one of them.
local jobs, lease, queue, incoming = unpack(KEYS)
local worker, nonce, id, limit, bytes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local holder = redis.call('GET', lease)
if holder ~= nonce then return {'fenced', holder or ''} end
local rec = read_record(jobs, id)
if rec and (rec.ended_at or not rec.adopted) then return {'taken'} end
redis.call('LLEN', incoming)
if not rec and (find_by_id(incoming, id, limit, bytes) or find_by_id(queue, id, limit, bytes)) then return {'taken'} end
rec = rec or {attempt = 1, seq = digits(now_us()), adopted = true}
if rec.worker and rec.worker ~= worker then rec.attempt = rec.attempt + 1 end
rec.worker, rec.resumed = worker, nonce
write_record(jobs, id, rec)
return {'ours', digits(rec.attempt), rec.seq}
