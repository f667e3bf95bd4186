-- Counts an attempt that failed by its host's fault and goes back to the queue for that.
-- KEYS  1 jobs
-- ARGV  1 id  2 worker  3 attempt  4 seq
-- Returns  how many attempts of the job did, this one included | 0: it is not the caller's any more | missing: there is no record
-- Idempotent: an attempt is counted once.
local jobs = KEYS[1]
local id, worker, attempt, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local rec = read_record(jobs, id)
if not rec then return 'missing' end
if not is_ours(rec, worker, attempt, seq) then return 0 end
if rec.host_fault_of ~= rec.attempt then
  rec.host_faults = (tonumber(rec.host_faults) or 0) + 1
  rec.host_fault_of = rec.attempt
  write_record(jobs, id, rec)
end
return rec.host_faults
