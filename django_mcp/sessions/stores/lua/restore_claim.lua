-- Keep a claim from another store, by the rule of `replaces_claim`. KEYS: claim, claims. ARGV: its name, server, scope,
-- digest, state, fence, outcome, lease, expires.
local state, fence, lease, expires = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[8]), tonumber(ARGV[9])
local over = expires
if state == 'running' then over = math.max(lease, expires) end
if over <= now then return false end
local found = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'fence', 'digest', 'lease', 'expires')
local is_held = found[1] == epoch and found[2] == 'running' and tonumber(found[5]) > now
if found[2] and (is_held or tonumber(found[6]) > now) then
  if found[4] ~= ARGV[4] or (found[1] == epoch and found[2] == 'done') then return false end
  local its = tonumber(found[3])
  if its ~= fence then
    if its > fence or (state == 'running' and is_held) then return false end
  elseif found[1] == epoch and state == 'running' and lease <= tonumber(found[5]) then
    return false
  end
end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'state', state, 'fence', ARGV[6], 'digest', ARGV[4], 'outcome', ARGV[7],
  'lease', ARGV[8], 'expires', ARGV[9], 'server', ARGV[2], 'scope', ARGV[3])
redis.call('PEXPIRE', KEYS[1], over - now)
enlist(KEYS[2], ARGV[1], over - now)
return true
