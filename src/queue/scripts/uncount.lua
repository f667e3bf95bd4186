-- Takes back the crash that was counted against a process that lives: its lease had run out, and its job was taken over.
-- KEYS  1 crashes
-- ARGV  1 sha1 of the element, in hexadecimal digits  2 nonce of the process
-- Returns  1: it was taken back | 0: none was counted against this process
-- Idempotent: the mark goes with the count.
local crashes, sha, nonce = KEYS[1], ARGV[1], ARGV[2]
local counted = redis.call('HGET', crashes, sha) or ''
local first, last = string.find(counted, ' lost:' .. nonce, 1, true)
if not first then return 0 end
local left = crash_count(counted) - 1
if left <= 0 then
  redis.call('HDEL', crashes, sha)
else
  local marks = string.sub(counted, 1, first - 1) .. string.sub(counted, last + 1)
  redis.call('HSET', crashes, sha, digits(left) .. string.gsub(marks, '^%d+', ''))
end
return 1
