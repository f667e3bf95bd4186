-- Lists what a worker has claimed, a page at a time: who compares it with what he has in work sends no list of his own.
-- KEYS  1 claimed:<worker>
-- ARGV  1 index of the first  2 how many at most  3 max bytes of a job
-- Returns  the id of each element in order, '' for what names no job; none: the list ends before that index
-- Reads only, and no element more once it has seen 4 MiB.
local from, most, max, seen, ids = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), 0, {}
while #ids < most and seen < 4194304 do
  local element = redis.call('LINDEX', KEYS[1], from + #ids)
  if not element then break end
  seen = seen + #element
  ids[#ids + 1] = #element <= max and ids_of(element) or ''
end
return ids
