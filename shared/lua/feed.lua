#!lua flags=allow-oom
-- Hand out what is due in one lane, oldest first, and re-score it in the same step, so that every worker may feed and
-- none hands out what another just did. ARGV: lane, how many, milliseconds until a handed-out job is due again.
-- A lease that ended counts a crash and leaves its doubt. Answers a flat list: id, kind, ...
-- include _job.lua
-- include _stepped_back.lua
local lane, most, again_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
notice_a_step_back()
if redis.call('EXISTS', root .. 'hold') == 1 then return {} end

local function lease_ended(id, job)
  local crashes = tonumber(job.crashes or '0') + 1
  local to = tonumber(job.doubts or '0') > 0 and 'unknown' or 'retrying'
  if job.status == 'pending' then to = 'pending' end -- it was only looked at
  change(id, job, to, {'crashes', crashes, 'lease_until_ms', '0', 'own_doubt', '0', 'next_ms', whole(now)},
         {{'error_code', 'lease_ended'}})
end

local handed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. 'due:' .. lane, '-inf', whole(now), 'LIMIT', 0, most)) do
  local job = read(id, 'status', 'kind', 'lane', 'amount_cents', 'currency', 'created_ms', 'doubts', 'crashes',
                   'lease_until_ms')
  if not job.status or FINAL[job.status] or job.status == 'parked' then
    redis.call('ZREM', root .. 'due:' .. lane, id)
  elseif tonumber(job.lease_until_ms or '0') > now then
    due_at(id, job, tonumber(job.lease_until_ms))
  else
    if tonumber(job.lease_until_ms or '0') > 0 then lease_ended(id, job) end
    due_at(id, job, now + again_ms)
    handed[#handed + 1] = id
    handed[#handed + 1] = job.kind
  end
end
return handed
