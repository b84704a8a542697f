-- KEYS: sequence, changes. ARGV: how many at most. Return the server, the last number and the newest changes, the
-- newest first; false where none are numbered in this epoch.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'server', 'last')
if found[1] ~= epoch or not found[2] then return false end
return {found[2], found[3], redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[1])}
