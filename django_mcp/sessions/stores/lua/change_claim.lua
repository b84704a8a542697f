-- Renew, settle or release a claim that is the caller's. KEYS: claim, claims. ARGV: its name, fence, which of the three,
-- lease or outcome.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'fence', 'expires')
if found[1] ~= epoch or found[2] ~= 'running' or found[3] ~= ARGV[2] then return false end
local expires = tonumber(found[4])
local over = expires
if ARGV[3] == 'renew' then
  local lease = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'lease', lease)
  over = math.max(lease, expires)
elseif ARGV[3] == 'settle' then
  redis.call('HSET', KEYS[1], 'state', 'done', 'outcome', ARGV[4])
else
  over = now
end
if over <= now then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('PEXPIRE', KEYS[1], over - now)
  enlist(KEYS[2], ARGV[1], over - now)
end
return true
