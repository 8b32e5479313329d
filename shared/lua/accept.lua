#!lua
-- Accept a job, once. ARGV: id, the caller's token, body hash, milliseconds until it is due, fields as JSON, "1" when
-- the id is random, so that nobody can have asked for it before.
-- Answers {what, created_ms, doubts}: created, replayed (asked before with the same body), conflict (another body).
-- A job that was made again from its object at Stripe knows neither its caller nor its body: the first submission with
-- its kind and amount gives it both, and finds its result.
-- The token makes a call repeated after a lost reply answer "created" again. Refused when memory is full (no allow-oom).
-- include _job.lua
local id, token, body_hash, delay_ms, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5])
local is_fresh = ARGV[6] == '1'
local DOUBTED_AFTER_A_LOSS_MS = 86400000 -- as long as Stripe remembers a key at least
local known = read(id, 'body_hash', 'accept_token', 'created_ms', 'kind', 'amount_cents', 'lane', 'doubts')

local function adopt()
  if known.kind ~= fields.kind or known.amount_cents ~= fields.amount_cents then return {'conflict', '', ''} end
  redis.call('HSET', job_key(id), 'body_hash', body_hash, 'caller', fields.caller, 'request', fields.request,
             'lane', fields.lane)
  if fields.reference then redis.call('HSET', job_key(id), 'reference', fields.reference) end
  local due = redis.call('ZSCORE', root .. 'due:' .. known.lane, id)
  if due and known.lane ~= fields.lane then
    never_due(id, known)
    due_at(id, fields, tonumber(due))
  end
  return {'replayed', known.created_ms, ''}
end

if known.body_hash == '' and body_hash ~= '' then return adopt() end
if known.body_hash then
  if known.body_hash ~= body_hash then return {'conflict', '', ''} end
  if known.accept_token == token then return {'created', known.created_ms, known.doubts or '0'} end
  return {'replayed', known.created_ms, ''}
end
fields.accept_token = token
-- Asked for before the store lost something it may have been sent: so it is never mocked, and never failed by a guess.
if not is_fresh and losses > 0 and fields.mode ~= 'none' and now - tonumber(epoch[3] or '0') < DOUBTED_AFTER_A_LOSS_MS then
  fields.doubts, fields.first_sent_ms = '1', whole(now)
end
create(id, fields, delay_ms)
return {'created', whole(now), fields.doubts or '0'}
