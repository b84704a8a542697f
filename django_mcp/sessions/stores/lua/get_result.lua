-- KEYS: results, result. ARGV: its name.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return false end
local found = redis.call('HMGET', KEYS[2], 'mime', 'body')
return found[1] and found
