-- KEYS: outlet, and of what was taken for the newest stream itself and its events.
-- ARGV: bounds, name of that one, cursor as it was or nothing, cursor as it is to be, bodies.
local found = redis.call('HMGET', KEYS[1], 'standalone', 'cursor')
local newest = found[1] or ''
if newest == '' or (found[2] or '') ~= ARGV[7] then return false end
if newest ~= ARGV[6] then return {0, newest} end
local last = append(KEYS[2], KEYS[3], KEYS[1], rest(9), bounds(), false)
if not last then return false end
redis.call('HSET', KEYS[1], 'cursor', ARGV[8])
return {1, newest}
