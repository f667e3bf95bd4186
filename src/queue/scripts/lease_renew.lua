-- Renews a lease. PEXPIRE rather than SET: it is not refused under maxmemory.
-- KEYS  1 lease:<worker>  2 workers  3 epoch
-- ARGV  1 worker  2 nonce  3 TTL in ms  4 what the registry says of it (JSON)  5 a random epoch
-- Returns  held, epoch | again, epoch: it had run out, or Redis had lost it, and is ours again | taken, nonce
-- Idempotent. To take a lease again that ran out is safe: each attempt is fenced by its own record.
local lease, workers, epoch = KEYS[1], KEYS[2], KEYS[3]
local worker, nonce, ttl, about = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local holder = redis.call('GET', lease)
local known = redis.call('HEXISTS', workers, worker) == 1
local age = redis.call('GET', epoch)
local word = 'held'
if holder == nonce then
  redis.call('PEXPIRE', lease, ttl)
elseif holder then
  return {'taken', holder}
else
  redis.call('SET', lease, nonce, 'PX', ttl)
  word = 'again'
end
if not known then redis.call('HSET', workers, worker, about) end
if not age then
  redis.call('SETNX', epoch, ARGV[5])
  age = redis.call('GET', epoch)
end
return {word, age}
