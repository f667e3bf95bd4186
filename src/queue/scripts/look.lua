-- What the records say about the attempts that a worker believes to have.
-- KEYS  1 jobs  2 epoch
-- ARGV  1 worker, then for each attempt: id, attempt, seq
-- Returns  the epoch ('' for none), then id, word, detail for those that are not simply going on:
--          cancelled | superseded, newer id | lost: somebody else's, or over | missing: there is no record
-- Reads only.
local jobs, worker = KEYS[1], ARGV[1]
local found = {redis.call('GET', KEYS[2]) or ''}
for i = 2, #ARGV, 3 do
  local id, attempt, seq = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local rec = read_record(jobs, id)
  local word, detail = nil, ''
  if not rec then
    word = 'missing'
  elseif not is_ours(rec, worker, attempt, seq) then
    word = 'lost'
  elseif rec.cancelled then
    word = 'cancelled'
  elseif rec.superseded_by then
    word, detail = 'superseded', rec.superseded_by
  end
  if word then
    found[#found + 1] = id
    found[#found + 1] = word
    found[#found + 1] = detail
  end
end
return found
