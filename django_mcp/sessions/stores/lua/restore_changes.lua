-- KEYS: sequence, changes. ARGV: server, the last number that somebody saw or nothing, life, last, floor, then number,
-- time, kind and URI of each. Return whether that number was still the last.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'last')
local seen = ''
if found[1] == epoch then seen = found[2] end
if seen ~= ARGV[2] then return false end
redis.call('DEL', KEYS[2])
for place = 6, #ARGV, 4 do
  redis.call('XADD', KEYS[2], '0-' .. ARGV[place], 't', ARGV[place + 1], 'k', ARGV[place + 2], 'u', ARGV[place + 3])
end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'server', ARGV[1], 'last', ARGV[4], 'floor', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return true
