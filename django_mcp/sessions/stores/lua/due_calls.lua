-- KEYS: what may be due on a server. ARGV: for how long already, how many at most. Return the time, and them.
return {now, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, ARGV[2])}
