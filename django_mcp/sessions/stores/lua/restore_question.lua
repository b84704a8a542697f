-- KEYS: question, waiting, questions, what the call asked. ARGV: id, session, call, key, state, answer, when it was
-- asked, when it expires, for how long it is kept after that.
local state, expires = ARGV[5], tonumber(ARGV[8])
local found = redis.call('HMGET', KEYS[1], 'epoch', 'state')
if found[1] == epoch then
  if found[2] ~= 'waiting' or state == 'waiting' then return false end
  redis.call('HSET', KEYS[1], 'state', state, 'answer', ARGV[6])
  redis.call('ZREM', KEYS[2], ARGV[1])
  return true
end
local kept = expires - now + tonumber(ARGV[9])
if kept <= 0 then return false end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'session', ARGV[2], 'call', ARGV[3], 'key', ARGV[4], 'state', state,
  'answer', ARGV[6], 'asked', ARGV[7], 'expires', ARGV[8])
redis.call('PEXPIRE', KEYS[1], kept)
if state == 'waiting' and expires > now then
  redis.call('ZADD', KEYS[2], expires, ARGV[1])
  keep(KEYS[2], 2 * kept)
end
enlist(KEYS[3], ARGV[1], kept)
if ARGV[3] ~= '' then
  redis.call('LREM', KEYS[4], 0, ARGV[1])
  redis.call('RPUSH', KEYS[4], ARGV[1])
  if redis.call('PTTL', KEYS[4]) < kept then redis.call('PEXPIRE', KEYS[4], kept) end
end
return true
