#!lua flags=allow-oom
-- The state of comparing with Stripe: who does it, and how far it is. ARGV: verb, token, lease in milliseconds, ...
--   look · hold (take the lease, if nobody has it or its holder is silent) · keep (renew it)
--   save (and renew): name of a run, its progress as JSON, when it began, findings as a JSON list of texts, then ids of
--   jobs whose objects were listed
--   begin (and renew): name of a run, its progress; what the run before it found is forgotten
--   leave
-- Every verb but look needs the lease, which only `hold` takes. Answers {held, now, state as a flat list}.
-- The lease's end stands in the value: one that lies further ahead than a lease was made before the clock was put back.
-- include _job.lua
local verb, token, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local state = root .. 'reconcile'
local FINDINGS_KEPT = 10000

local function holds()
  local holder, until_ms = unpack(redis.call('HMGET', state, 'holder', 'lease_until_ms'))
  local live = holder and until_ms and tonumber(until_ms) > now and tonumber(until_ms) <= now + lease_ms
  if holder == token then return live or verb == 'hold' end
  return not live and verb == 'hold'
end

local held = verb ~= 'look' and holds()
if held then
  redis.call('HSET', state, 'holder', token, 'lease_until_ms', whole(now + lease_ms))
  local name = ARGV[4]
  if verb == 'save' or verb == 'begin' then redis.call('HSET', state, 'run:' .. name, ARGV[5]) end
  if verb == 'begin' then redis.call('DEL', state .. ':found:' .. name) end
  if verb == 'save' then
    for _, finding in ipairs(cjson.decode(ARGV[7])) do redis.call('RPUSH', state .. ':found:' .. name, finding) end
    redis.call('LTRIM', state .. ':found:' .. name, -FINDINGS_KEPT, -1)
    for i = 8, #ARGV do
      if redis.call('EXISTS', job_key(ARGV[i])) == 1 then redis.call('HSET', job_key(ARGV[i]), 'listed_ms', ARGV[6]) end
    end
  elseif verb == 'leave' then
    redis.call('HDEL', state, 'holder', 'lease_until_ms')
  end
end
return {held and 1 or 0, whole(now), redis.call('HGETALL', state)}
