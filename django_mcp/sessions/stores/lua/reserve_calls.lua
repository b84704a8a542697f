-- KEYS: what runs in a scope. ARGV: how many may at once, lease, life, how many of those that seem to be over to name,
-- the calls. Return whether there is room, and where there is none those of which the lease may be over.
local count = #ARGV - 4
if redis.call('ZCARD', KEYS[1]) + count > tonumber(ARGV[1]) then
  return {0, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])}
end
for place = 5, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[place]) end
keep(KEYS[1], tonumber(ARGV[3]))
return {1, {}}
