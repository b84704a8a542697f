-- KEYS: question, waiting, questions, what the call asked. ARGV: id, session, call, key, for how long it waits, for how
-- long it is kept, how many may wait at once.
local expires, kept = now + tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then return false end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'session', ARGV[2], 'call', ARGV[3], 'key', ARGV[4], 'state', 'waiting',
  'answer', '', 'asked', now, 'expires', expires)
redis.call('PEXPIRE', KEYS[1], kept)
redis.call('ZADD', KEYS[2], expires, ARGV[1])
if redis.call('PTTL', KEYS[2]) < kept then redis.call('PEXPIRE', KEYS[2], kept) end
enlist(KEYS[3], ARGV[1], kept)
if ARGV[3] ~= '' then
  redis.call('RPUSH', KEYS[4], ARGV[1])
  if redis.call('PTTL', KEYS[4]) < kept then redis.call('PEXPIRE', KEYS[4], kept) end
end
return true
