-- Tries every command that the scripts use, on one key that is removed again.
-- KEYS  1 probe
-- ARGV  1 the workers' own channel
-- Returns  the commands that the user may not run, or that the server does not have
local key, denied = KEYS[1], {}
local function try(name, ...)
  local answer = redis.pcall(name, ...)
  if type(answer) == 'table' and answer.err then
    local said = string.upper(answer.err)
    if string.find(said, 'NOPERM', 1, true) or string.find(said, "CAN'T RUN THIS COMMAND", 1, true) or string.find(said, "CAN'T ACCESS", 1, true)
      or string.find(said, 'NO PERMISSIONS', 1, true) or string.find(said, 'UNKNOWN', 1, true) then
      denied[#denied + 1] = string.lower(name)
    end
  end
end
try('TIME')
try('DEL', key)
try('RPUSH', key, '1', '2', '3')
try('LPUSH', key, '1')
try('LLEN', key)
try('LINDEX', key, 0)
try('LMOVE', key, key, 'LEFT', 'RIGHT')
try('LPOP', key)
try('RPOP', key)
try('LREM', key, 1, '9')
try('LTRIM', key, 0, 9)
try('DEL', key)
try('HSET', key, 'a', '1')
try('HGET', key, 'a')
try('HEXISTS', key, 'a')
try('HLEN', key)
try('HSCAN', key, '0')
try('HDEL', key, 'a')
try('DEL', key)
try('ZADD', key, 1, 'a')
try('ZSCORE', key, 'a')
try('ZCARD', key)
try('ZRANGE', key, 0, 0)
try('ZRANGEBYSCORE', key, 1, 1)
try('ZREM', key, 'b')
try('ZREMRANGEBYSCORE', key, 5, 6)
try('ZREMRANGEBYRANK', key, 5, 6)
try('DEL', key)
try('SET', key, '1', 'PX', 1000)
try('GET', key)
try('SETNX', key, '1')
try('EXISTS', key)
try('PEXPIRE', key, 1000)
try('PTTL', key)
try('PUBLISH', ARGV[1], '')
try('DEL', key)
return denied
