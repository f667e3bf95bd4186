-- Gives a lease back in good order.
-- KEYS  1 lease:<worker>  2 workers  3 claimed:<worker>
-- ARGV  1 worker  2 nonce  3 what the registry says of a worker that left claims behind (JSON)
-- Returns  how many claims are left, as a string. They count as no crash. While the lease goes on without renewal only the next
--          start takes them: their last lines lie on this host, and a worker that is stopped is mostly started again.
-- Idempotent.
local lease, workers, claimed = KEYS[1], KEYS[2], KEYS[3]
local worker, nonce = ARGV[1], ARGV[2]
local left = redis.call('LLEN', claimed)
if redis.call('GET', lease) == nonce then
  redis.call('HDEL', workers, worker .. '/claim')
  if left == 0 then
    redis.call('DEL', lease)
    redis.call('HDEL', workers, worker)
  else
    redis.call('HSET', workers, worker, ARGV[3])
  end
end
return digits(left)
