#!lua
-- Add API calls to the stream of the revenue log. ARGV: how many entries to keep, then JSON: for each call its names
-- and values in turn.
if redis.call('EXISTS', KEYS[1] .. 'epoch') == 0 then return redis.error_reply('STORELOST The store was emptied.') end
local kept, calls = ARGV[1], cjson.decode(ARGV[2])
for _, flat in ipairs(calls) do redis.call('XADD', KEYS[1] .. 'revenue', 'MAXLEN', '~', kept, '*', unpack(flat)) end
return #calls
