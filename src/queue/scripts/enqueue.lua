-- Pushes a job. A tombstone of its id is cleared: who pushes it wants it built.
-- KEYS  1 queue  2 tombs
-- ARGV  1 id  2 payload  3 '1': in front of all others
-- Returns  the length of the queue. Not idempotent, as no push is: a repeated one is parked or dropped by the id.
-- The push is the first write: on Redis 6.2 what follows a write is not refused any more under maxmemory.
redis.call('LLEN', KEYS[1])
redis.call('ZSCORE', KEYS[2], ARGV[1])
local length
if ARGV[3] == '1' then length = redis.call('LPUSH', KEYS[1], ARGV[2]) else length = redis.call('RPUSH', KEYS[1], ARGV[2]) end
redis.call('ZREM', KEYS[2], ARGV[1])
return length
