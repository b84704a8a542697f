-- KEYS: claim, claims. ARGV: its name, a fence that nobody had, lease, lifetime, whether to take over, digest, how many
-- there may be, by how much a fence grows that may have been given out and lost, server, scope.
local name, takes_over, digest = ARGV[1], ARGV[5] == '1', ARGV[6]
local lease, expires = now + tonumber(ARGV[3]), now + tonumber(ARGV[4])
local found = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'fence', 'digest', 'lease', 'expires')
local fence = ARGV[2]
if found[2] then
  local is_held = found[1] == epoch and found[2] == 'running' and tonumber(found[5]) > now
  if tonumber(found[6]) > now or is_held then
    if found[4] ~= digest then return {'taken'} end
    if is_held or not takes_over then return {'taken'} end
    if found[1] == epoch and found[2] == 'done' then return {'taken'} end
  end
  fence = whole(tonumber(found[3]) + (found[1] == epoch and 1 or tonumber(ARGV[8])))
else
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then return {'full'} end
end
local over = math.max(lease, expires)
if over <= now then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], name)
  return {'claimed', fence}
end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'state', 'running', 'fence', fence, 'digest', digest, 'outcome', '',
  'lease', lease, 'expires', expires, 'server', ARGV[9], 'scope', ARGV[10])
redis.call('PEXPIRE', KEYS[1], over - now)
enlist(KEYS[2], name, over - now)
return {'claimed', fence}
