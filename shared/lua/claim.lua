#!lua flags=allow-oom
-- Claim jobs for one worker: lease, fence and doubt in one step. ARGV: the caller's token, lease in milliseconds, the
-- desk's mode and account, how old a first send may be to send again, crashes that park a job, "1" when nothing else
-- runs in the caller's process, then the job ids. Answers one {id, verdict, record...} per id: claimed with the flat
-- hash, or why not; a job with a crash behind it is `crashed` to whoever is not alone, so that it takes no neighbours
-- with it. Sent again with its token after a lost reply it answers the same jobs. Nothing is claimed while the desk is
-- on hold; a live lease is never taken over. After a loss of the store every job has one more doubt.
-- include _job.lua
local token, lease_ms, mode, account = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local resend_ms, most_crashes, alone = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local FENCES_A_LOSS = 1000000 -- more than a job's attempts between two losses
local on_hold = redis.call('EXISTS', root .. 'hold') == 1

local function claimed(id)
  return {id, 'claimed', unpack(redis.call('HGETALL', job_key(id)))}
end

-- In what the store lost, a worker may have claimed the job and sent it: at the earliest after the last event that is left.
local function note_losses(id, job)
  local noted = tonumber(job.losses or '0')
  if noted >= losses or not job.status or FINAL[job.status] or job.status == 'running' then return end
  local fields = {'losses', whole(losses)}
  if job.mode ~= 'none' and job.status ~= 'pending' then
    local lost_since = noted == losses - 1 and tonumber(epoch[4] or '0') or 0
    job.doubts = tonumber(job.doubts or '0') + 1
    job.first_sent_ms = job.first_sent_ms or whole(math.max(tonumber(job.created_ms), lost_since))
    for _, value in ipairs({'doubts', job.doubts, 'first_sent_ms', job.first_sent_ms}) do fields[#fields + 1] = value end
  end
  redis.call('HSET', job_key(id), unpack(fields))
end

-- Why a job cannot be claimed now; nil when it can.
local function obstacle(id, job)
  if not job.status then return 'missing' end
  if FINAL[job.status] or job.status == 'parked' then return job.status end
  if job.status == 'running' then return 'running' end
  if on_hold then return 'hold' end
  -- A look's lease. One that has ended is a crash that feed counts first: a stale hint must not take the job before that.
  if tonumber(job.lease_until_ms or '0') > 0 then return 'running' end
  if job.status ~= 'queued' and tonumber(job.next_ms or '0') > now then return 'not_due' end
  if job.mode ~= 'none' and (job.mode ~= mode or job.account ~= account) then
    if is_look(job) then
      never_due(id, job)
      change(id, job, 'canceled', {'finished_ms', whole(now)})
      forget_later(id, job, 'canceled')
      return 'canceled'
    end
    park(id, job, 'other_account', 'This job was accepted for another Stripe account or mode than the desk has now.')
    return 'parked'
  end
  if tonumber(job.crashes or '0') >= most_crashes then
    park(id, job, 'poison', 'Workers crashed repeatedly while they had this job.')
    return 'parked'
  end
  if tonumber(job.crashes or '0') > 0 and not alone then return 'crashed' end
  if job.status ~= 'pending' and job.first_sent_ms and now - tonumber(job.first_sent_ms) > resend_ms then
    redis.call('HSET', job_key(id), 'next_ms', whole(now + 3600000))
    if job.status ~= 'unknown' then change(id, job, 'unknown', {}) end
    due_at(id, job, now + 3600000)
    return 'too_old'
  end
end

local function take(id, job)
  local lease_until = whole(now + lease_ms)
  -- A fence that no attempt had in what was lost: two attempts with one fence would each pass for the other.
  local fence = math.max(tonumber(job.fence or '0'), losses * FENCES_A_LOSS) + 1
  local fields = {'fence', whole(fence), 'lease_until_ms', lease_until, 'claim_token', token}
  due_at(id, job, now + lease_ms)
  if job.status == 'pending' then -- a look sends nothing, so it is neither an attempt nor a doubt, and clients see no change
    redis.call('HSET', job_key(id), unpack(fields))
    return
  end
  local attempt = tonumber(job.attempts or '0') + 1
  local more = {'attempts', attempt, 'own_doubt', '0'}
  if job.mode ~= 'none' then
    more = {'attempts', attempt, 'own_doubt', '1', 'doubts', tonumber(job.doubts or '0') + 1,
            'first_sent_ms', job.first_sent_ms or whole(now)}
  end
  for _, value in ipairs(more) do fields[#fields + 1] = value end
  change(id, job, 'running', fields, {{'attempt', attempt}})
end

local answers, answered = {}, {}
for i = 8, #ARGV do
  local id = ARGV[i]
  local job = read(id, 'status', 'kind', 'lane', 'amount_cents', 'currency', 'created_ms', 'mode', 'account', 'attempts',
                   'fence', 'doubts', 'crashes', 'lease_until_ms', 'next_ms', 'first_sent_ms', 'claim_token', 'losses')
  if answered[id] then -- named twice, it is one job with one attempt
    answers[#answers + 1] = {id, 'running'}
  elseif job.claim_token == token and tonumber(job.lease_until_ms or '0') > now and not FINAL[job.status] then
    answers[#answers + 1] = claimed(id)
  else
    note_losses(id, job)
    local why_not = obstacle(id, job)
    if why_not then
      answers[#answers + 1] = {id, why_not}
    else
      take(id, job)
      answers[#answers + 1] = claimed(id)
    end
  end
  answered[id] = true
end
return answers
