-- Put in front of every script. The record of a deployment is JSON in the hash `jobs`, under the deployment's id:
--   worker         who has it; '' while it waits in the queue (given back, or taken from a dead worker)
--   attempt, seq   seq is the order within the service: a string of digits, because cjson rounds at 14 of them
--   service        the service's id
--   cancelled      true once a cancel came
--   superseded_by  id of the newer job of the service
--   outcome        the end as JSON, byte for byte as the worker gave it; status: its status; retry: true when it is an
--                  infrastructure failure; posted: true once it may have reached the dashboard
--   after          ids of older jobs of the service whose end this one's BUILDED has to wait for
--   barred         true once a newer job has waited too long for it, or found it refused: it may post no BUILDED any more
--   refused        true while the dashboard refuses its BUILDED alone and no post of it is under way
--   hold_until     ms; an attempt of it that was lost may still have a post on the way until then
--   lost_on        host of the worker that died with it, and lost_attempt: which attempt that was
--   back_from      host whose worker gave it back to the queue
--   ended_at       ms; set once the job is over: the record stays for a while, so that a late cancel finds it
--   builded        true once BUILDED may have reached the dashboard, whatever the end became after that
--   waits_since    ms; since when its BUILDED waits for older jobs of the service
--   host_faults    how many attempts failed by their host's fault, and host_fault_of: the last one that was counted
--   adopted        true for an element that Redis cannot read: the worker that has it read the id
--   resumed        nonce of the process that has it: took it, or took it up again
-- The field '<id>/parked' holds the bytes of a second push of the same id. ('/' cannot be in an id.)
-- Scripts read everything before their first write: a key of a wrong type then stops them with nothing done.

local function now_us()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function digits(n)
  return string.format('%.0f', n)
end

local function valid_id(v)
  if type(v) == 'string' and #v <= 64 and string.find(v, '^[%w][%w_-]*$') then return v end
  return nil
end

-- whether there is something to build: what is refused at once must not take the place of a good job of its service
local function is_buildable(job)
  local function text(v) return type(v) == 'string' and v ~= '' end
  if not text(job.branch) or not text(job.repositoryName) or type(job.gitProvider) ~= 'table' then return false end
  -- the branch was deleted
  return not (text(job.commitSha) and string.find(job.commitSha, '^0+$'))
end

-- deployment id and service id of a payload, each nil where there is no valid one; no service where there is nothing to build
local function ids_of(payload)
  local ok, job = pcall(cjson.decode, payload)
  if not ok or type(job) ~= 'table' then return nil, nil end
  return valid_id(job.deploymentId), is_buildable(job) and valid_id(job.serviceId) or nil
end

-- nil where there is none, or where somebody wrote something else there
local function read_record(jobs, id)
  local text = redis.call('HGET', jobs, id)
  if not text then return nil end
  local ok, rec = pcall(cjson.decode, text)
  if not ok or type(rec) ~= 'table' or type(rec.attempt) ~= 'number' or type(rec.seq) ~= 'string' then return nil end
  if type(rec.worker) ~= 'string' then rec.worker = '' end
  if type(rec.after) ~= 'table' then rec.after = nil end
  return rec
end

local function write_record(jobs, id, rec)
  if rec.after and #rec.after == 0 then rec.after = nil end
  redis.call('HSET', jobs, id, cjson.encode(rec))
end

local function is_open(rec)
  return rec and not rec.ended_at
end

-- The newest job of a service is over. Of the older ones that its BUILDED would have had to wait for the newest that is still open takes
-- its place, so that the next job of the service waits for that one: else an older BUILDED on its way could arrive last.
local function leave_newest(jobs, service_key, id, rec)
  if not rec.service or redis.call('HGET', service_key, rec.service) ~= rec.seq .. ' ' .. id then return end
  for _, other in ipairs(rec.after or {}) do
    local older = read_record(jobs, other)
    if is_open(older) then
      redis.call('HSET', service_key, rec.service, older.seq .. ' ' .. other)
      return
    end
  end
  redis.call('HDEL', service_key, rec.service)
end

-- whether the attempt is the caller's and goes on
local function is_ours(rec, worker, attempt, seq)
  return is_open(rec) and rec.worker == worker and rec.attempt == tonumber(attempt) and rec.seq == seq
end

-- 'cancelled' or 'superseded' where that takes the place of what is stored: an end that was not yet sent is voided, a
-- BUILDED that may have been sent is followed by CANCELLED where the user cancelled, and stands where a newer job came: that one's
-- end follows, unless it was barred. A FAILED that may have been sent stands.
local function voided(rec)
  if rec.status == 'CANCELLED' then return nil end
  if rec.status == 'FAILED' and rec.posted then return nil end
  if rec.cancelled then return 'cancelled' end
  if rec.superseded_by and (rec.barred or not (rec.status == 'BUILDED' and rec.posted)) then return 'superseded' end
  return nil
end

-- fate and detail of a claim whose end the record decides already, or nothing where it is to be built
local function decided(rec)
  local why = voided(rec)
  if why == 'cancelled' then return 'cancelled', '' end
  if why == 'superseded' then return 'superseded', rec.superseded_by end
  if rec.outcome then return 'ended', rec.outcome end
end

-- stores CANCELLED in the place of what voided() found; the id goes where the text says @@
local function store_void(rec, why, cancelled_json, superseded_json)
  if why == 'cancelled' then
    rec.outcome = cancelled_json
  else
    rec.outcome = string.gsub(superseded_json, '@@', rec.superseded_by)
  end
  rec.status, rec.posted, rec.retry = 'CANCELLED', nil, nil
end

-- The hash `crashes` has under the sha1 of an element: how many attempts at it ended with a dead worker, then for each of those that a
-- reaper counted ' lost:' and the nonce of the process whose lease had run out (that process takes the count back if it lives after all),
-- then the nonce of the process that counted itself when it took the element up again.
local function crash_count(text)
  return tonumber(string.match(text or '', '^%d+') or '0')
end

local function crash_marks(text)
  local marks = ''
  for mark in string.gmatch(text or '', ' lost:%w+') do marks = marks .. mark end
  return marks
end

-- removes one element from a list of claims: by its bytes, or, where the caller has only its beginning, by that and its length
local function remove_claim(list, bytes, size)
  if #bytes == size then return redis.call('LREM', list, -1, bytes) end
  for i = redis.call('LLEN', list) - 1, 0, -1 do
    local element = redis.call('LINDEX', list, i)
    if #element == size and string.sub(element, 1, #bytes) == bytes then
      return redis.call('LREM', list, -1, element)
    end
  end
  return 0
end

-- The first element of a list among the first `limit` that is a job of that id. Redis tells no element's length and hands out no part of
-- one, so elements are read one at a time, and none after `bytes` are seen: at most `bytes` and one element are held.
local function find_by_id(list, id, limit, bytes)
  local quoted, seen = '"' .. id .. '"', 0
  for at = 0, limit - 1 do
    local element = redis.call('LINDEX', list, at)
    if not element then return nil end
    seen = seen + #element
    if seen > bytes then return nil end
    if string.find(element, quoted, 1, true) and ids_of(element) == id then return element end
  end
  return nil
end
