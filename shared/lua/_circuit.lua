-- Whether Stripe is out of reach: every worker with a fresh heartbeat has failed to connect since anyone's last answer.
local WORKER_FRESH_MS = 5000

local function fresh_workers()
  return redis.call('ZRANGEBYSCORE', root .. 'workers', whole(now - WORKER_FRESH_MS), '+inf')
end

local function circuit_open()
  local workers = fresh_workers()
  if #workers == 0 then return false end
  local answered = tonumber(redis.call('HGET', root .. 'circuit', 'answered_ms') or '0')
  for _, worker in ipairs(workers) do
    local failed = redis.call('HGET', root .. 'circuit', 'failed:' .. worker)
    if not failed or tonumber(failed) <= answered then return false end
  end
  return true
end

local function stripe_answered()
  redis.call('HSET', root .. 'circuit', 'answered_ms', whole(now))
  redis.call('HDEL', root .. 'circuit', 'open_since_ms')
end
