#!lua flags=allow-oom
-- Record what is known: a job's answer, its ledger entries and totals, in one step, once. ARGV[1]: JSON with
--   job, fence, basis (fact | mock | refusal | absence), status, fields (flat texts for the record), error_code, look_ms,
--   count_failed (book), answered, clean (a refusal that stands only without doubt), secret + secret_seconds,
--   payment {id, ...texts}, entries [{object, kind, cents, column, counter, ...}], follow_up {id, fields, delay_ms},
--   stub (fields of a job to make again if it is lost), resend_ms (for absence: how old a first send must be).
-- A fact is recorded whoever brings it; a guess needs its own live lease and fence. Absence, the proof by a whole list
-- that Stripe has nothing, needs a job in doubt that nobody has or may send any more, as it stood before the list.
-- Answers {verdict, status}:
-- recorded, already (said before), contradicted (final otherwise; booked and noted), fenced, in_doubt, reachable.
-- include _job.lua
-- include _circuit.lua
local fact = cjson.decode(ARGV[1])
local id = fact.job
local job = read(id, 'status', 'kind', 'lane', 'amount_cents', 'currency', 'created_ms', 'mode', 'fence', 'doubts',
                 'own_doubt', 'lease_until_ms', 'stripe_id', 'book', 'first_sent_ms', 'losses')

-- A result never changes; what speaks against it is booked, noted on the job, and an event that alarms.
local function contradict(maker, made, by, payment)
  redis.call('HSET', job_key(maker), 'contradicted_by', by)
  event('job.contradicted', {{'job_id', maker}, {'kind', made.kind}, {'status', made.status}, {'payment_intent_id', payment}})
end

local function book(entry)
  -- Looking at a payment may show one that another desk of the account made: that is no revenue of this one.
  if entry.job ~= id and redis.call('EXISTS', job_key(entry.job)) == 0 then return end
  local seen = entry.object .. ':' .. entry.kind
  if redis.call('HEXISTS', root .. 'ledger:seen', seen) == 1 then return end
  local flat = {}
  for _, name in ipairs({'object', 'kind', 'cents', 'currency', 'book', 'account', 'payment', 'job', 'reverses'}) do
    if entry[name] then flat[#flat + 1] = name; flat[#flat + 1] = entry[name] end
  end
  -- The sum first: if the cents were no possible number it fails here, with nothing written yet.
  local totals = root .. 'totals:' .. entry.book
  local total = redis.call('HINCRBY', totals, entry.column, entry.cents)
  local number = redis.call('XADD', root .. 'ledger', '*', unpack(flat))
  redis.call('HSET', root .. 'ledger:seen', seen, number)
  if entry.counter then redis.call('HINCRBY', totals, entry.counter, 1) end
  redis.call('HINCRBY', totals, 'entries', 1)
  redis.call('HSET', totals, 'last_entry', number)
  if entry.job ~= id then
    local maker = read(entry.job, 'status', 'kind', 'book')
    if maker.status == 'failed' or maker.status == 'canceled' or (maker.book == 'mock' and entry.book ~= 'mock') then
      contradict(entry.job, maker, entry.object, entry.payment)
    end
  end
  event('ledger.' .. entry.kind, {{'job_id', entry.job}, {'payment_intent_id', entry.payment}, {'amount_cents', entry.cents},
        {'currency', entry.currency}, {'book', entry.book}, {'total_cents', whole(total)}, {'ledger_entry', number}}, 'revenue')
end

-- A pending job whose payment was seen to end by somebody else is looked at at once.
local function wake(maker)
  local pending = maker ~= id and read(maker, 'status', 'lane') or {}
  if pending.status ~= 'pending' then return end
  redis.call('HSET', job_key(maker), 'next_ms', whole(now))
  due_at(maker, pending, now)
end

-- A payment only moves forward: what is succeeded or canceled stays so, whatever arrives late.
local function learn(payment)
  local key = root .. 'payment:' .. payment.id
  local before = redis.call('HGET', key, 'status')
  local flat = {'as_of_ms', whole(now)}
  if before ~= 'succeeded' and before ~= 'canceled' or payment.status == 'succeeded' then
    for name, value in pairs(payment) do flat[#flat + 1] = name; flat[#flat + 1] = value end
    if before ~= payment.status then
      event('payment.' .. payment.status, {{'job_id', payment.job}, {'status', payment.status}, {'payment_intent_id', payment.id},
            {'amount_cents', payment.amount_cents}, {'currency', payment.currency}, {'book', payment.book}})
      if payment.job and (payment.status == 'succeeded' or payment.status == 'canceled') then wake(payment.job) end
    end
  end
  redis.call('HSET', key, unpack(flat))
end

local function learn_all()
  if fact.answered then stripe_answered() end
  if fact.payment then learn(fact.payment) end
  for _, entry in ipairs(fact.entries or {}) do book(entry) end
end

-- A guess must have begun after the last loss of the store; the mock of a desk without a key, which asks nobody, need not.
local function live_lease()
  if job.mode ~= 'none' and tonumber(job.losses or '0') < losses then return false end
  return job.status == 'running' and job.fence == fact.fence and tonumber(job.lease_until_ms or '0') > now
end

local function may_be_given_up()
  return job.status == 'unknown' and (job.fence or '0') == fact.fence and tonumber(job.lease_until_ms or '0') <= now
         and job.first_sent_ms and now - tonumber(job.first_sent_ms) > fact.resend_ms
end

-- Why a guess may not stand; nil when it may.
local function objection()
  if fact.basis == 'fact' then return nil end
  if fact.basis == 'absence' then return not may_be_given_up() and 'fenced' or nil end
  if not live_lease() then return 'fenced' end
  local others = tonumber(job.doubts or '0') - tonumber(job.own_doubt or '0')
  if fact.basis == 'mock' and job.mode ~= 'none' then
    if others > 0 then return 'in_doubt' end
    if not circuit_open() then return 'reachable' end
  end
  if fact.clean and others > 0 then return 'in_doubt' end
end

local function settle()
  -- What the answer does not name is no more: no error of an earlier attempt stays on a job that succeeded.
  local fields = {'lease_until_ms', '0', 'next_ms', '', 'error', '', 'result', '', 'own_doubt', '0'}
  for name, value in pairs(fact.fields) do fields[#fields + 1] = name; fields[#fields + 1] = value end
  if FINAL[fact.status] then
    fields[#fields + 1] = 'finished_ms'; fields[#fields + 1] = whole(now)
    never_due(id, job)
  else
    fields[#fields + 1] = 'next_ms'; fields[#fields + 1] = whole(now + fact.look_ms)
    fields[#fields + 1] = 'crashes'; fields[#fields + 1] = '0'
    due_at(id, job, now + fact.look_ms)
  end
  if fact.basis == 'mock' then fields[#fields + 1] = 'doubts'; fields[#fields + 1] = '0' end
  if fact.secret then
    redis.call('SET', root .. 'secret:' .. id, fact.secret, 'EX', fact.secret_seconds)
  elseif FINAL[fact.status] then
    redis.call('DEL', root .. 'secret:' .. id)
  end
  if fact.count_failed then redis.call('HINCRBY', root .. 'totals:' .. fact.count_failed, 'failed', 1) end
  change(id, job, fact.status, fields, {{'book', fact.fields.book}, {'payment_intent_id', fact.payment and fact.payment.id},
         {'error_code', fact.error_code}})
  if FINAL[fact.status] and is_look(job) then forget_later(id, job, fact.status) end
  local follow_up = fact.follow_up
  if follow_up and redis.call('EXISTS', job_key(follow_up.id)) == 0 then
    create(follow_up.id, follow_up.fields, follow_up.delay_ms)
  end
end

-- An older view of the same object, still pending, contradicts nothing.
local function agrees()
  local same = (fact.fields.stripe_id or '') == (job.stripe_id or '')
  return same and (fact.status == job.status or fact.status == 'pending')
end

if not job.status and fact.stub then
  create(id, fact.stub, 0)
  job = fact.stub
end
if not job.status then -- money that Stripe moved is booked, whether or not this store knows the job
  if fact.basis == 'fact' then learn_all() end
  return {'missing', ''}
end
if FINAL[job.status] then
  if fact.basis == 'fact' then learn_all() end
  -- A look that ended unanswered says nothing of the payment, so that somebody saw it after all contradicts nothing.
  if agrees() or is_look(job) then return {'already', job.status} end
  if fact.basis ~= 'fact' then return {'fenced', job.status} end
  contradict(id, job, fact.fields.stripe_id or fact.status, fact.payment and fact.payment.id)
  return {'contradicted', job.status}
end
local why_not = objection()
if why_not then return {why_not, job.status} end
learn_all()
settle()
return {'recorded', fact.status}
