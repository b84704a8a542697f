-- KEYS: call, calls, running, stream, events. ARGV: id, fence, owner, lease, life, whether it had begun, whether it was
-- to stop. A fence that was given out and lost is not given out again.
if not is_abandoned(KEYS[1], ARGV[2], ARGV[6], ARGV[7]) then return false end
local fence, lease, life = tonumber(ARGV[2]) + 1, now + tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('HGET', KEYS[1], 'epoch') ~= epoch then fence = math.max(fence, now) end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'owner', ARGV[3], 'fence', whole(fence), 'lease', lease)
redis.call('PEXPIRE', KEYS[1], life)
enlist(KEYS[2], ARGV[1], life)
enlist(KEYS[3], ARGV[1], life)
local row = open_stream(KEYS[4])
if row then
  keep(KEYS[4], row.life)
  keep(KEYS[5], row.life)
end
return {fence, lease}
