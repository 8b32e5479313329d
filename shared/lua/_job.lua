-- What every script that changes jobs knows of them. KEYS[1] is the root of all keys.
-- Scripts are the only writers; each runs alone, so what stands in one script happens in one step.
local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Which store this is, and what it lost. One without an epoch was emptied: nothing is written into it as if it were whole.
local epoch = redis.call('HMGET', root .. 'epoch', 'id', 'losses', 'loss_ms', 'lost_since_ms')
if not epoch[1] and not KEYS[2] then return redis.error_reply('STORELOST The store was emptied.') end
local losses = tonumber(epoch[2] or '0')

local EVENTS_KEPT = 500000
local FINAL = {succeeded = true, failed = true, canceled = true}
local AWAITS_NOBODY = {succeeded = true, failed = true, canceled = true, pending = true, parked = true}

local function job_key(id) return root .. 'job:' .. id end

local function read(id, ...)
  local names, found = {...}, {}
  for i, value in ipairs(redis.call('HMGET', job_key(id), ...)) do
    if value then found[names[i]] = value end
  end
  return found
end

local function whole(value) return string.format('%.0f', value) end

-- `also`: a second stream, which a log file is rendered from alone; only inside one stream is the order certain for ever.
local function event(name, fields, also)
  local flat = {'event', name}
  for _, pair in ipairs(fields) do
    if pair[2] then flat[#flat + 1] = pair[1]; flat[#flat + 1] = pair[2] end
  end
  for _, stream in ipairs({'events', also}) do
    redis.call('XADD', root .. stream, 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(flat))
  end
end

-- `name`: of an event that is more than the change to a status.
local function job_event(id, job, status, more, name)
  local fields = {{'job_id', id}, {'kind', job.kind}, {'status', status}, {'amount_cents', job.amount_cents},
                  {'currency', job.currency}}
  for _, pair in ipairs(more or {}) do fields[#fields + 1] = pair end
  event(name or 'job.' .. status, fields)
end

-- Move a job to another status: its record, the index of each status, the event, the waiters. `job` holds its status,
-- kind, lane, amount_cents, currency and created_ms as they stand.
local function change(id, job, to, fields, more)
  fields[#fields + 1] = 'status'; fields[#fields + 1] = to
  fields[#fields + 1] = 'updated_ms'; fields[#fields + 1] = whole(now)
  redis.call('HSET', job_key(id), unpack(fields))
  if job.status == to then return end
  redis.call('ZREM', root .. 'jobs:' .. job.status, id)
  redis.call('ZADD', root .. 'jobs:' .. to, job.created_ms, id)
  job_event(id, job, to, more)
  if AWAITS_NOBODY[to] then redis.call('PUBLISH', root .. 'changed', id) end
end

local function due_at(id, job, ms) redis.call('ZADD', root .. 'due:' .. job.lane, whole(ms), id) end

local function never_due(id, job) redis.call('ZREM', root .. 'due:' .. job.lane, id) end

local function create(id, fields, delay_ms)
  fields.status, fields.created_ms, fields.updated_ms = 'queued', fields.created_ms or whole(now), whole(now)
  if losses > 0 then fields.losses = whole(losses) end -- what was lost before says nothing of this job
  local flat = {}
  for name, value in pairs(fields) do flat[#flat + 1] = name; flat[#flat + 1] = value end
  redis.call('HSET', job_key(id), unpack(flat))
  redis.call('ZADD', root .. 'jobs', fields.created_ms, id)
  redis.call('ZADD', root .. 'jobs:kind:' .. fields.kind, fields.created_ms, id)
  redis.call('ZADD', root .. 'jobs:queued', fields.created_ms, id)
  due_at(id, fields, now + delay_ms)
  job_event(id, fields, 'queued')
end

-- A look at a payment is asked for by its window's id, and never again: once it has ended it need not be kept or listed.
local LOOK_KEPT_MS = 3600000

local function forget_later(id, job, status)
  redis.call('ZREM', root .. 'jobs', id)
  redis.call('ZREM', root .. 'jobs:kind:' .. job.kind, id)
  redis.call('ZREM', root .. 'jobs:' .. status, id)
  redis.call('PEXPIRE', job_key(id), LOOK_KEPT_MS)
end

local function is_look(job) return job.kind == 'status_refresh' and job.mode ~= 'none' end

local function park(id, job, code, message)
  never_due(id, job)
  change(id, job, 'parked', {'error', cjson.encode({code = code, message = message, retryable = false})},
         {{'error_code', code}})
end
