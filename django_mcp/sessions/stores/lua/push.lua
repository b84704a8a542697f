-- KEYS: outlet, and of what was taken for the newest stream itself and its events.
-- ARGV: bounds, name of that one, bodies.
local newest = redis.call('HGET', KEYS[1], 'standalone') or ''
if newest == '' then return false end
if newest ~= ARGV[6] then return {0, newest} end
local last = append(KEYS[2], KEYS[3], KEYS[1], rest(7), bounds(), false)
if not last then return false end
return {1, newest}
