-- KEYS: what may be due on a server. ARGV: lease, life, the calls.
for place = 3, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[place]) end
keep(KEYS[1], tonumber(ARGV[2]))
return true
