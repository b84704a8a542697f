-- KEYS: results, result. ARGV: its name, lifetime, how many there may be, MIME type, body, server, tenant, principal,
-- scope. Return the names of those that made room.
local lifetime = tonumber(ARGV[2])
redis.call('HSET', KEYS[2], 'mime', ARGV[4], 'body', ARGV[5], 'server', ARGV[6], 'tenant', ARGV[7],
  'principal', ARGV[8], 'scope', ARGV[9])
redis.call('PEXPIRE', KEYS[2], lifetime)
redis.call('ZADD', KEYS[1], micros, ARGV[1])
if redis.call('PTTL', KEYS[1]) < lifetime then redis.call('PEXPIRE', KEYS[1], lifetime) end
local over = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[3]))
if #over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #over - 1) end
return over
