#!lua flags=allow-oom
-- What a worker says of itself and of Stripe's reach, and what stands now. ARGV: verb, worker, for some verbs a number.
--   beat (a heartbeat; number: its threads) · leave · suspect (begins to try, because a call could not connect) · failed
--   (could not connect) · answered · probe (the right to try again for so many milliseconds, one at a time in the scope
--   named instead of a worker) · look (changes nothing)
-- Answers {open, suspected, failing workers, fresh workers, their threads, granted}: texts. A worker that reports is
-- alive, so a report is a heartbeat too; one that has left is not brought back by a late one.
-- include _job.lua
-- include _circuit.lua
local verb, worker, number = ARGV[1], ARGV[2], ARGV[3]
local circuit = root .. 'circuit'
local granted = '0'
local WORKER_KEPT_MS = 3600000

local function note(field)
  if not redis.call('ZSCORE', root .. 'workers', worker) then return end
  redis.call('ZADD', root .. 'workers', whole(now), worker)
  redis.call('HSET', circuit, field, whole(now))
end

local function forget(name)
  redis.call('ZREM', root .. 'workers', name)
  redis.call('HDEL', root .. 'workers:threads', name)
  redis.call('HDEL', circuit, 'failed:' .. name)
end

if verb == 'beat' then
  redis.call('ZADD', root .. 'workers', whole(now), worker)
  redis.call('HSET', root .. 'workers:threads', worker, number)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', root .. 'workers', '-inf', whole(now - WORKER_KEPT_MS))) do
    forget(gone)
  end
elseif verb == 'leave' then
  forget(worker)
elseif verb == 'suspect' then
  note('suspected_ms')
elseif verb == 'failed' then
  note('failed:' .. worker)
elseif verb == 'answered' then
  stripe_answered()
elseif verb == 'probe' then
  if redis.call('SET', root .. 'circuit:probe:' .. worker, '1', 'NX', 'PX', number) then granted = '1' end
end

local answered = stamp('answered_ms')
local fresh, failing, threads = fresh_workers(), 0, 0
for _, name in ipairs(fresh) do
  if stamp('failed:' .. name) > answered then failing = failing + 1 end
  threads = threads + tonumber(redis.call('HGET', root .. 'workers:threads', name) or '0')
end
local suspected = stamp('suspected_ms') > math.max(answered, now - WORKER_FRESH_MS)
return {circuit_open() and '1' or '0', suspected and '1' or '0', tostring(failing), tostring(#fresh), tostring(threads),
        granted}
