-- KEYS: calls, running, requests, outlet, then of each call itself, its stream and its events.
-- ARGV: owner, lease, life, life of the session, the ids of the calls.
-- Return of each that is the owner's its fence, whether it is to stop and the end of its lease.
local found, life = {}, tonumber(ARGV[3])
for place = 1, #ARGV - 4 do
  local at = 4 + (place - 1) * 3
  local call, stream, events = KEYS[at + 1], KEYS[at + 2], KEYS[at + 3]
  local fields = redis.call('HMGET', call, 'epoch', 'state', 'owner', 'fence', 'cancel')
  found[place] = false
  if fields[1] == epoch and fields[2] == 'running' and fields[3] == ARGV[1] then
    local lease = now + tonumber(ARGV[2])
    redis.call('HSET', call, 'lease', lease)
    if redis.call('PTTL', call) < life / 2 then
      redis.call('PEXPIRE', call, life)
      enlist(KEYS[1], ARGV[place + 4], life)
      enlist(KEYS[2], ARGV[place + 4], life)
      keep(KEYS[3], life)
      local row = open_stream(stream)
      if row then
        keep(stream, row.life)
        keep(events, row.life)
        keep(KEYS[4], tonumber(ARGV[4]))
      end
    end
    found[place] = {tonumber(fields[4]), fields[5] == '1', lease}
  end
end
return found
