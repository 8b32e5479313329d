#!lua
-- Accept a job, once. ARGV: id, the caller's token, body hash, milliseconds until it is due, fields as JSON, "1" when
-- the id is random, so that nobody can have asked for it before.
-- Answers {what, created_ms, doubts}: created, replayed (asked before with the same body), conflict (another body).
-- The token makes a call repeated after a lost reply answer "created" again. Refused when memory is full (no allow-oom).
-- include _job.lua
local id, token, body_hash, delay_ms, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5])
local is_fresh = ARGV[6] == '1'
local DOUBTED_AFTER_A_LOSS_MS = 86400000 -- as long as Stripe remembers a key at least
local known = read(id, 'body_hash', 'accept_token', 'created_ms', 'doubts')

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
