-- KEYS: results, result. ARGV: its name. Return its fields, when it was made in microseconds and when it goes.
local made = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not made then return false end
local found = redis.call('HMGET', KEYS[2], 'server', 'tenant', 'principal', 'scope', 'mime', 'body')
if not found[1] or not found[6] then return false end
return {found, whole(made), whole(now + redis.call('PTTL', KEYS[2]))}
