#!lua flags=allow-oom
-- The store's epoch: which store this is, which run of its server was seen last, and how often it lost something. As
-- KEYS[2] names what it writes, it runs in a store that has none. ARGV: verb, then
--   begin: id, run id, "1" when every acknowledged write is kept · seen: the run id that was known, the one there is,
--   "1" when every write is kept, "1" when the server was a replica · anew: id, run id, "1" when every write is kept,
--   losses, the ids of earlier epochs, what to hold the desk for or "".
-- Begun or seen by two at once, the first one's word stands. Answers the epoch's flat hash.
-- include _job.lua
local verb, key = ARGV[1], KEYS[2]

-- What was lost came after the last event that is left.
local function lost()
  local last = redis.call('XREVRANGE', root .. 'events', '+', '-', 'COUNT', 1)[1]
  redis.call('HSET', key, 'loss_ms', whole(now), 'lost_since_ms', last and string.match(last[1], '^%d+') or '0')
end

if verb == 'begin' and not epoch[1] then
  redis.call('HSET', key, 'id', ARGV[2], 'losses', '0', 'run_id', ARGV[3], 'always', ARGV[4], 'begun_ms', whole(now))
elseif verb == 'seen' and epoch[1] then
  local known = redis.call('HMGET', key, 'run_id', 'always')
  if (known[1] or '') == ARGV[2] then
    local kept_all = known[2] == '1' and ARGV[4] == '1' and ARGV[5] == '0'
    if ARGV[3] ~= ARGV[2] and not kept_all then
      redis.call('HINCRBY', key, 'losses', 1)
      lost()
    end
    redis.call('HSET', key, 'run_id', ARGV[3], 'always', ARGV[4])
  end
elseif verb == 'anew' then
  redis.call('HSET', key, 'id', ARGV[2], 'losses', ARGV[5], 'run_id', ARGV[3], 'always', ARGV[4], 'before', ARGV[6],
             'begun_ms', whole(now))
  lost()
  if ARGV[7] ~= '' then redis.call('SET', root .. 'hold', ARGV[7]) end
end
return redis.call('HGETALL', key)
