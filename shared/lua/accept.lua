#!lua
-- Accept a job, once. ARGV: id, the caller's token, body hash, milliseconds until it is due, fields as JSON.
-- Answers {what, status or created_ms}: created, replayed (asked before with the same body), conflict (another body).
-- A job that was made again from its object at Stripe knows neither its caller nor its body: the first submission with
-- its kind and amount gives it both, and finds its result.
-- The token makes a call repeated after a lost reply answer "created" again. Refused when memory is full (no allow-oom).
-- include _job.lua
local id, token, body_hash, delay_ms, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5])
local known = read(id, 'body_hash', 'accept_token', 'created_ms', 'kind', 'amount_cents', 'lane')

local function adopt()
  if known.kind ~= fields.kind or known.amount_cents ~= fields.amount_cents then return {'conflict', ''} end
  redis.call('HSET', job_key(id), 'body_hash', body_hash, 'caller', fields.caller, 'request', fields.request,
             'lane', fields.lane)
  if fields.reference then redis.call('HSET', job_key(id), 'reference', fields.reference) end
  local due = redis.call('ZSCORE', root .. 'due:' .. known.lane, id)
  if due and known.lane ~= fields.lane then
    never_due(id, known)
    due_at(id, fields, tonumber(due))
  end
  return {'replayed', known.created_ms}
end

if known.body_hash == '' and body_hash ~= '' then return adopt() end
if known.body_hash then
  if known.body_hash ~= body_hash then return {'conflict', ''} end
  if known.accept_token == token then return {'created', known.created_ms} end
  return {'replayed', known.created_ms}
end
fields.accept_token = token
create(id, fields, delay_ms)
return {'created', whole(now)}
