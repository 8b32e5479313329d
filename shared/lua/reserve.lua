#!lua flags=allow-oom
-- Reserve slots of the shared Stripe budget (GCRA). ARGV: name of the budget, calls a second, burst, slots wanted,
-- how far ahead a slot may lie in milliseconds. Answers {granted, milliseconds until the first, microseconds between
-- two of them}; granted 0 means that the next free slot lies too far ahead, and when it comes.
-- include _job.lua
local name, rate, burst, wanted, ahead_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local FARTHEST_AHEAD_MS = 60000
local budget = root .. 'budget:' .. name
local exact_now = clock[1] * 1000 + clock[2] / 1000
local interval = 1000 / rate
local tolerance = (burst - 1) * interval
local arrival = tonumber(redis.call('GET', budget) or '0')
if arrival < exact_now then arrival = exact_now end
-- Nobody reserves further ahead than this: what lies beyond was reserved before the clock was put back.
if arrival - tolerance - exact_now > ahead_ms + FARTHEST_AHEAD_MS then arrival = exact_now end

local wait = math.max(0, arrival - tolerance - exact_now)
local granted = 0
while granted < wanted and arrival - tolerance - exact_now <= ahead_ms do
  arrival = arrival + interval
  granted = granted + 1
end
-- It needs no expiry: one that has passed says nothing, and there is one for each mode.
if granted > 0 then redis.call('SET', budget, string.format('%.3f', arrival)) end
return {granted, math.ceil(wait), math.floor(interval * 1000)}
