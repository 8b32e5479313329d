#!lua
-- Accept a job, once. ARGV: id, the caller's token, body hash, milliseconds until it is due, fields as JSON.
-- Answers {what, status or created_ms}: created, replayed (asked before with the same body), conflict (another body).
-- The token makes a call repeated after a lost reply answer "created" again. Refused when memory is full (no allow-oom).
-- include _job.lua
local id, token, body_hash, delay_ms, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5])
local known = read(id, 'body_hash', 'accept_token', 'created_ms')

if known.body_hash then
  if known.body_hash ~= body_hash then return {'conflict', ''} end
  if known.accept_token == token then return {'created', known.created_ms} end
  return {'replayed', known.created_ms}
end
fields.accept_token = token
create(id, fields, delay_ms)
return {'created', whole(now)}
