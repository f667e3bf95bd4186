-- Marks an attempt as superseded by a newer job of its service that waits behind it, if that one waits still.
-- KEYS  1 incoming  2 queue  3 jobs  4 tombs
-- ARGV  1 id  2 worker  3 attempt  4 seq  5 newer id  6 how many elements are looked through
-- Returns  1 | 0: it does not wait any more, is cancelled, or is older
-- Idempotent.
local incoming, queue, jobs, tombs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, newer, limit = ARGV[1], ARGV[5], tonumber(ARGV[6])
local rec = read_record(jobs, id)
if not is_ours(rec, ARGV[2], ARGV[3], ARGV[4]) or not rec.service then return 0 end
if rec.superseded_by == newer then return 1 end
if redis.call('ZSCORE', tombs, newer) then return 0 end
local other = read_record(jobs, newer)
if is_open(other) and (other.cancelled or tonumber(other.seq) < tonumber(rec.seq)) then return 0 end
local element = find_by_id(incoming, newer, limit, 8388608) or find_by_id(queue, newer, limit, 8388608)
if not element then return 0 end
local _, service = ids_of(element)
if service ~= rec.service then return 0 end
rec.superseded_by = newer
write_record(jobs, id, rec)
return 1
