#!lua flags=allow-oom
-- Note on a job that something at Stripe speaks against it, once, and alarm. ARGV: id, what speaks against it.
-- Nothing else changes. Answers 1 when it was noted now.
-- include _job.lua
local id, by = ARGV[1], ARGV[2]
local job = read(id, 'status', 'kind', 'contradicted_by')
if not job.status or job.contradicted_by then return 0 end
redis.call('HSET', job_key(id), 'contradicted_by', by)
event('job.contradicted', {{'job_id', id}, {'kind', job.kind}, {'status', job.status}})
return 1
