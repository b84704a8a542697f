-- KEYS: outlet, stream, events, and of a former newest one itself and its events.
-- ARGV: name, life of the session, name of the former newest one.
local found = redis.call('HMGET', KEYS[2], 'epoch', 'kind', 'life')
if found[1] ~= epoch then return false end
if found[2] == 'standalone' then
  local newest = redis.call('HGET', KEYS[1], 'standalone') or ''
  if newest ~= ARGV[1] then
    if newest ~= ARGV[3] then return {0, newest} end
    if newest ~= '' then succeed(KEYS[4], KEYS[5]) end
    hold_outlet(KEYS[1], tonumber(ARGV[2]))
    redis.call('HSET', KEYS[1], 'standalone', ARGV[1])
    redis.call('HSET', KEYS[2], 'open', 1)
    redis.call('PEXPIRE', KEYS[2], found[3])
    redis.call('PEXPIRE', KEYS[3], found[3])
  end
end
return {1, redis.call('HINCRBY', KEYS[2], 'reader', 1)}
