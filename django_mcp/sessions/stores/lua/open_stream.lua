-- KEYS: outlet, streams, stream, and of a former newest one itself and its events.
-- ARGV: name, kind, kept, life, life of the session, name of the former newest one.
local name, kind, kept, life, session_life = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if kind == 'standalone' then
  local newest = redis.call('HGET', KEYS[1], 'standalone') or ''
  if newest ~= ARGV[6] then return {0, newest} end
  if newest ~= '' then succeed(KEYS[4], KEYS[5]) end
end
hold_outlet(KEYS[1], session_life)
if kind == 'standalone' then redis.call('HSET', KEYS[1], 'standalone', name) end
redis.call('HSET', KEYS[3], 'epoch', epoch, 'kind', kind, 'open', 1, 'first', 1, 'last', 0, 'size', 0, 'reader', 0,
  'calls', 0, 'kept', kept, 'life', life)
redis.call('PEXPIRE', KEYS[3], life)
enlist(KEYS[2], name, session_life)
return {1, ''}
