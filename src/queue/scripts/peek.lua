-- Which jobs wait next.
-- KEYS  1 incoming  2 queue
-- ARGV  1 how many elements
-- Returns  a flat list of id, service id for each element in order ('' where there is none), then its end: '1' if the queue was
--          longer, '' if this is all of it
-- Reads only, one element at a time, and none more after 8 MiB: of a queue of huge elements fewer are seen.
local left, seen, found, longer = tonumber(ARGV[1]), 0, {}, ''

-- the value of a key, where the key occurs once and its value is plain; searched from its first letter, which is rarer than a quote
local function only(element, key)
  local from, to = string.find(element, key, 1, true)
  if not from or string.byte(element, from - 1) ~= 34 or string.find(element, key, to, true) then return nil end
  return string.match(element, '^%s*:%s*"([%w_-]+)"', to + 1)
end

-- What ids_of() says, without reading the whole: nothing is decided by it before the element was read.
local function guess(element)
  local id, service = only(element, 'deploymentId"'), only(element, 'serviceId"')
  if id and service then return id, service end
  return ids_of(element)
end

for _, list in ipairs(KEYS) do
  local at = 0
  while left > 0 do
    local element = redis.call('LINDEX', list, at)
    if not element then break end
    seen = seen + #element
    if seen > 8388608 then left = 0 break end
    local id, service = guess(element)
    found[#found + 1] = id or ''
    found[#found + 1] = service or ''
    left, at = left - 1, at + 1
  end
end
if left == 0 then longer = '1' end
found[#found + 1] = longer
return found
