#!lua flags=allow-oom
-- What a worker says of itself and of Stripe's reach, and what stands now. ARGV: verb, worker, for some verbs a number.
--   beat (a heartbeat; number: its threads) · leave · failed (could not connect) · answered · probe (the right to
--   try again for so many milliseconds, one at a time in the scope named instead of a worker) · look (changes nothing)
-- Answers {open, failing workers, fresh workers, their threads, now, granted}: texts.
-- include _job.lua
-- include _circuit.lua
local verb, worker, number = ARGV[1], ARGV[2], ARGV[3]
local circuit = root .. 'circuit'
local granted = '0'

if verb == 'beat' then
  redis.call('ZADD', root .. 'workers', whole(now), worker)
  redis.call('HSET', root .. 'workers:threads', worker, number)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', root .. 'workers', '-inf', whole(now - 3600000))) do
    redis.call('ZREM', root .. 'workers', gone)
    redis.call('HDEL', root .. 'workers:threads', gone)
    redis.call('HDEL', circuit, 'failed:' .. gone)
  end
elseif verb == 'leave' then
  redis.call('ZREM', root .. 'workers', worker)
  redis.call('HDEL', root .. 'workers:threads', worker)
  redis.call('HDEL', circuit, 'failed:' .. worker)
elseif verb == 'failed' then
  redis.call('HSET', circuit, 'failed:' .. worker, whole(now))
elseif verb == 'answered' then
  stripe_answered()
elseif verb == 'probe' then
  if redis.call('SET', root .. 'circuit:probe:' .. worker, '1', 'NX', 'PX', number) then granted = '1' end
end

local answered = tonumber(redis.call('HGET', circuit, 'answered_ms') or '0')
local fresh, failing, threads = fresh_workers(), 0, 0
for _, name in ipairs(fresh) do
  if tonumber(redis.call('HGET', circuit, 'failed:' .. name) or '0') > answered then failing = failing + 1 end
  threads = threads + tonumber(redis.call('HGET', root .. 'workers:threads', name) or '0')
end
local open = circuit_open()
if open and verb ~= 'look' then redis.call('HSETNX', circuit, 'open_since_ms', whole(now)) end
return {open and '1' or '0', tostring(failing), tostring(#fresh), tostring(threads), whole(now), granted}
