#!lua flags=allow-oom
-- Give a claimed job back without a fact: again at a set time, or to a human. ARGV: id, fence, "1" when this attempt
-- provably sent nothing (it takes its own doubt away, never another's), "1" when Stripe answered, milliseconds until it
-- is due, error as JSON, "parked" or "". Needs the live lease; a late one changes nothing and its doubt stays.
-- Answers the new status (retrying, unknown, pending, parked) or "fenced".
-- include _job.lua
-- include _circuit.lua
local id, fence, unsent, answered = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4] == '1'
local delay_ms, error_json, to = tonumber(ARGV[5]), ARGV[6], ARGV[7]
if answered then stripe_answered() end

local job = read(id, 'status', 'kind', 'lane', 'amount_cents', 'currency', 'created_ms', 'fence', 'doubts', 'own_doubt',
                 'lease_until_ms', 'first_sent_ms')
local leased = (job.status == 'running' or job.status == 'pending') and tonumber(job.lease_until_ms or '0') > now
if not leased or job.fence ~= fence then return 'fenced' end

local fields = {'lease_until_ms', '0', 'next_ms', whole(now + delay_ms)}
if job.status == 'pending' and to == '' then -- a look that learned nothing
  redis.call('HSET', job_key(id), 'crashes', '0', unpack(fields))
  due_at(id, job, now + delay_ms)
  return 'pending'
end
local doubts = tonumber(job.doubts or '0')
if unsent then doubts = doubts - tonumber(job.own_doubt or '0') end
if to == '' then to = doubts > 0 and 'unknown' or 'retrying' end
-- An attempt that came back did not crash.
for _, value in ipairs({'doubts', doubts, 'own_doubt', '0', 'crashes', '0', 'error', error_json}) do fields[#fields + 1] = value end
if doubts == 0 and job.first_sent_ms then redis.call('HDEL', job_key(id), 'first_sent_ms') end
if to == 'parked' then never_due(id, job) else due_at(id, job, now + delay_ms) end
change(id, job, to, fields, {{'error_code', cjson.decode(error_json).code}})
return to
