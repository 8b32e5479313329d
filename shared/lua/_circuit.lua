-- Whether Stripe is out of reach: every worker with a fresh heartbeat has failed to connect since anyone's last answer.
-- A stamp that lies ahead was made before the clock was put back: it says nothing any more.
local WORKER_FRESH_MS = 5000

local function fresh_workers()
  return redis.call('ZRANGEBYSCORE', root .. 'workers', whole(now - WORKER_FRESH_MS), whole(now + WORKER_FRESH_MS))
end

local function stamp(field)
  local ms = tonumber(redis.call('HGET', root .. 'circuit', field) or '0')
  return ms <= now + WORKER_FRESH_MS and ms or 0
end

local function circuit_open()
  local workers = fresh_workers()
  if #workers == 0 then return false end
  local answered = stamp('answered_ms')
  for _, worker in ipairs(workers) do
    if stamp('failed:' .. worker) <= answered then return false end
  end
  return true
end

local function stripe_answered()
  redis.call('HSET', root .. 'circuit', 'answered_ms', whole(now))
end
