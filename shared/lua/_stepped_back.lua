-- The store's clock may be put back. What was to happen at a time would then wait out the jump, so the first feed that
-- notices it moves all of that by the jump, in one step: what is due, leases, waits and first sends of unfinished jobs.
local NOTICED_MS, NOTED_EVERY_MS, AT_ONCE = 2000, 500, 1000

-- A record's times, as they must stand now. A time that was set after the jump is right already: a lease or a wait that
-- a job got with a status lies in the future only if that status does too. `first_sent_ms` moves in any case: earlier is safe.
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

local function move_lane(due, before, jump)
  local found = redis.call('ZRANGEBYSCORE', due, '(' .. whole(now), '+inf', 'WITHSCORES')
  for first = 1, #found, 2 * AT_ONCE do
    local moved = {}
    for i = first, math.min(first + 2 * AT_ONCE, #found + 1) - 2, 2 do
      moved[#moved + 1] = whole(math.max(now, tonumber(found[i + 1]) - jump)); moved[#moved + 1] = found[i]
    end
    redis.call('ZADD', due, unpack(moved))
  end
  return #found / 2
end

local function move_records(due, before, jump)
  for _, id in ipairs(redis.call('ZRANGE', due, 0, -1)) do
    local job = read(id, 'status', 'updated_ms', 'lease_until_ms', 'next_ms', 'first_sent_ms')
    local fields = job.status and job.status ~= 'queued' and not FINAL[job.status] and moved_times(job, before, jump) or {}
    if #fields > 0 then redis.call('HSET', job_key(id), unpack(fields)) end
  end
end

local function notice_a_step_back()
  local before = tonumber(redis.call('GET', root .. 'fed') or '0')
  local jump = before - now
  if jump > NOTICED_MS then
    local jobs = 0
    for _, lane in ipairs({'interactive', 'bulk'}) do
      move_records(root .. 'due:' .. lane, before, jump)
      jobs = jobs + move_lane(root .. 'due:' .. lane, before, jump)
    end
    event('clock.stepped_back', {{'jump_ms', whole(jump)}, {'jobs', whole(jobs)}})
  end
  -- Seldom, since each write waits for the disk; never lower but for a jump, so that small steps add up.
  if jump > NOTICED_MS or -jump >= NOTED_EVERY_MS then redis.call('SET', root .. 'fed', whole(now)) end
end
