#!lua flags=allow-oom
-- What a worker says of itself and of Stripe's reach, and what stands now. ARGV: verb, worker, for some verbs a number.
--   beat (a heartbeat; number: its threads) · leave · suspect (begins to try, because a call could not connect) · failed
--   (could not connect) · answered · probe (the right to try again; number: for how many milliseconds. While the
--   circuit is open one worker of the desk has it at a time, the one whose last try is the oldest, so that none whose
--   own network is broken keeps the others from it; else each has its own) · look (changes nothing)
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

local function longest_without_a_try(name)
  for _, other in ipairs(fresh_workers()) do
    if stamp('failed:' .. other) < stamp('failed:' .. name) then return false end
  end
  return true
end

local function forget(name)
  redis.call('ZREM', root .. 'workers', name)
  redis.call('HDEL', root .. 'workers:threads', name)
  redis.call('HDEL', circuit, 'failed:' .. name, 'probe:' .. name)
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
  local desk_wide = circuit_open()
  local right = 'probe:' .. (desk_wide and '' or worker)
  -- Kept as a time, like all else here, so that one clock rules; an end that lies too far ahead is from before it was put back.
  local held_until = tonumber(redis.call('HGET', circuit, right) or '0')
  local held = held_until > now and held_until <= now + tonumber(number)
  if not held and (not desk_wide or longest_without_a_try(worker)) then
    redis.call('HSET', circuit, right, whole(now + tonumber(number)))
    granted = '1'
  end
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
