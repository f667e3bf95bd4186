-- Takes the lease of a worker's id for one process.
-- KEYS  1 lease:<worker>  2 workers  3 epoch
-- ARGV  1 worker  2 nonce  3 nonce of the process before, or ''  4 TTL in ms  5 what the registry says of it (JSON)  6 a random epoch
-- Returns  held, epoch, what the registry said before | taken, ms left
-- Idempotent. The own earlier nonce is taken over at once, an unknown one never.
local lease, workers, epoch = KEYS[1], KEYS[2], KEYS[3]
local worker, nonce, previous, ttl, about = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local holder = redis.call('GET', lease)
local before = redis.call('HGET', workers, worker) or ''
redis.call('GET', epoch)
if holder and holder ~= nonce and holder ~= previous then
  return {'taken', digits(redis.call('PTTL', lease))}
end
redis.call('SET', lease, nonce, 'PX', ttl)
redis.call('HSET', workers, worker, about)
redis.call('SETNX', epoch, ARGV[6])
return {'held', redis.call('GET', epoch), before}
