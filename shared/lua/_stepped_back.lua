-- The store's clock may be put back. What was to happen at a time would then wait out the jump, so the first feed that
-- notices it begins to move all of that by the jump: what is due, leases, waits and first sends of unfinished jobs. Each
-- feed moves a portion, lowest score first: what was moved lies below the score that was reached, so nothing moves twice.
local NOTICED_MS, NOTED_EVERY_MS, PORTION = 2000, 500, 1000
local LANES = {'interactive', 'bulk'}
local fed = root .. 'fed' -- at_ms: when feed last ran; while a step is moved also jump_ms, before_ms, and each lane's score

-- A record's times, as they must stand now. A time that was set after the jump is right already: a lease or a wait that
-- a job got with a status lies ahead of the jump only if that status does too. `first_sent_ms` moves in any case: earlier is safe.
local function moved_times(job, before, jump)
  local fields = {}
  local function move(name, floor)
    fields[#fields + 1] = name; fields[#fields + 1] = whole(math.max(floor, tonumber(job[name]) - jump))
  end
  local set_ahead = job.status == 'pending' or tonumber(job.updated_ms) > now
  if set_ahead and tonumber(job.lease_until_ms or '0') > before then move('lease_until_ms', now) end
  if set_ahead and (tonumber(job.next_ms) or 0) > now then move('next_ms', now) end
  if job.first_sent_ms then move('first_sent_ms', 0) end
  return fields
end

local function move_job(due, id, score, before, jump)
  local job = read(id, 'status', 'updated_ms', 'lease_until_ms', 'next_ms', 'first_sent_ms')
  local fields = job.status and job.status ~= 'queued' and not FINAL[job.status] and moved_times(job, before, jump) or {}
  if #fields > 0 then redis.call('HSET', job_key(id), unpack(fields)) end
  if score > now then redis.call('ZADD', due, whole(math.max(now, score - jump)), id) end
end

-- Move a portion of a lane, and all that have the score of its last one. Answers the score reached; nil when none is left.
local function move_portion(lane, reached, before, jump)
  local due = root .. 'due:' .. lane
  local ids = redis.call('ZRANGEBYSCORE', due, '(' .. reached, '+inf', 'LIMIT', PORTION - 1, 1, 'WITHSCORES')
  local last = ids[2] or '+inf'
  local found = redis.call('ZRANGEBYSCORE', due, '(' .. reached, last, 'WITHSCORES')
  for i = 1, #found, 2 do move_job(due, found[i], tonumber(found[i + 1]), before, jump) end
  return ids[2]
end

local function go_on_moving()
  local state = redis.call('HMGET', fed, 'before_ms', 'jump_ms')
  if not state[1] then return false end
  local left = false
  for _, lane in ipairs(LANES) do
    local reached = redis.call('HGET', fed, lane)
    reached = reached and move_portion(lane, reached, tonumber(state[1]), tonumber(state[2]))
    if reached then redis.call('HSET', fed, lane, reached); left = true else redis.call('HDEL', fed, lane) end
  end
  if not left then redis.call('HDEL', fed, 'before_ms', 'jump_ms') end
  return left
end

local function begin_to_move(before, jump)
  while go_on_moving() do end -- what an earlier step has left
  local jobs = 0
  redis.call('HSET', fed, 'before_ms', whole(before), 'jump_ms', whole(jump))
  for _, lane in ipairs(LANES) do
    redis.call('HSET', fed, lane, '-inf')
    jobs = jobs + redis.call('ZCARD', root .. 'due:' .. lane)
  end
  event('clock.stepped_back', {{'jump_ms', whole(jump)}, {'jobs', whole(jobs)}})
end

local function notice_a_step_back()
  local before = tonumber(redis.call('HGET', fed, 'at_ms') or '0')
  local jump = before - now
  if jump > NOTICED_MS then begin_to_move(before, jump) end
  go_on_moving()
  -- Seldom, since each write waits for the disk; never lower but for a jump, so that small steps add up.
  if jump > NOTICED_MS or -jump >= NOTED_EVERY_MS then redis.call('HSET', fed, 'at_ms', whole(now)) end
end
