-- KEYS: outlet. ARGV: cursor, life of the session.
hold_outlet(KEYS[1], tonumber(ARGV[2]))
return redis.call('HSETNX', KEYS[1], 'cursor', ARGV[1]) == 1
