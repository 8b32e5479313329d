#!lua flags=no-writes
-- The raw replies to several reads at one moment. ARGV: each command as a JSON list of texts.
local replies = {}
for i, command in ipairs(ARGV) do replies[i] = redis.call(unpack(cjson.decode(command))) end
return replies
