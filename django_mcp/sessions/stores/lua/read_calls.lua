-- KEYS: calls. Each is false where there is none, or whether it is of this epoch and its fields.
local found = {}
for place, key in ipairs(KEYS) do
  local fields = redis.call('HMGET', key, 'epoch', 'fence', 'server', 'scope', 'session', 'stream', 'request', 'digest',
    'payload', 'repeatable', 'owner', 'lease', 'began', 'cancel', 'progress', 'state', 'begun', 'ended')
  found[place] = fields[1] and fields[16] ~= 'void' and {fields[1] == epoch, fields}
end
return found
