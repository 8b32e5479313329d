#!lua flags=allow-oom
-- What a human does to a job, with its entry in the audit, in one step, once. ARGV: verb (ask_again | resolve), id, the
-- caller's token, who, why, "1" when they looked at Stripe first, how old a first send may be to send again, error as
-- JSON. Answers {what, status}: done, already (said before; nothing happens again), missing, conflict (the job stands
-- otherwise), too_old (to be sent again blindly), in_doubt (Stripe may have it, and nobody looked there).
-- include _job.lua
local verb, id, token, who, why = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local looked, resend_ms, error_json = ARGV[6] == '1', tonumber(ARGV[7]), ARGV[8]
local job = read(id, 'status', 'kind', 'lane', 'amount_cents', 'currency', 'created_ms', 'mode', 'book', 'doubts',
                 'first_sent_ms', 'next_ms', 'stripe_id', 'operate_token', 'asked_again_ms')
local before = job.status
local doubts = tonumber(job.doubts or '0')

local function audit(name, after)
  local said = {{'who', who}, {'why', why}}
  job_event(id, job, after, said, name)
  redis.call('XADD', root .. 'audit', '*', 'verb', verb, 'job_id', id, 'who', who, 'why', why, 'before', before,
             'after', after, 'at_ms', whole(now))
  return {'done', after}
end

-- Where a parked job goes on. One whose object Stripe or the mock has is looked at, never sent again.
local function way_out()
  if job.stripe_id then return 'pending' end
  return doubts > 0 and 'unknown' or 'retrying'
end

local function ask_again()
  if before == 'unknown' then
    if job.first_sent_ms and now - tonumber(job.first_sent_ms) > resend_ms then return {'too_old', before} end
    if tonumber(job.next_ms or '0') <= now then return {'already', before} end
  elseif before ~= 'parked' then
    return {job.asked_again_ms and 'already' or 'conflict', before}
  end
  local after = before == 'parked' and way_out() or before
  local fields = {'next_ms', whole(now), 'asked_again_ms', whole(now), 'operate_token', token}
  -- The count begins anew: whoever asks again has seen to what killed the workers, or five more of them tell.
  if before == 'parked' then fields[#fields + 1] = 'crashes'; fields[#fields + 1] = '0' end
  if after == 'pending' then fields[#fields + 1] = 'error'; fields[#fields + 1] = '' end
  due_at(id, job, now)
  change(id, job, after, fields)
  return audit('job.asked_again', after)
end

local function resolve()
  if before ~= 'parked' then return {'conflict', before} end
  if doubts > 0 and not looked then return {'in_doubt', before} end
  local book = job.book or (job.mode == 'none' and 'mock' or job.mode)
  never_due(id, job)
  redis.call('DEL', root .. 'secret:' .. id)
  if job.kind == 'charge' then redis.call('HINCRBY', root .. 'totals:' .. book, 'failed', 1) end
  change(id, job, 'failed', {'book', book, 'error', error_json, 'result', '', 'next_ms', '', 'operate_token', token,
                             'finished_ms', whole(now)},
         {{'book', book}, {'error_code', cjson.decode(error_json).code}})
  if is_look(job) then forget_later(id, job, 'failed') end
  return audit('job.resolved', 'failed')
end

if not before then return {'missing', ''} end
if job.operate_token == token then return {'already', before} end
return verb == 'resolve' and resolve() or ask_again()
