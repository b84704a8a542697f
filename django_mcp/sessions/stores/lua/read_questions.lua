-- KEYS: questions. Each is false where there is none of this epoch, or its fields and whether its time is over.
local found = {}
for place, key in ipairs(KEYS) do
  local fields = redis.call('HMGET', key, 'epoch', 'session', 'call', 'key', 'state', 'answer', 'asked', 'expires')
  found[place] = fields[1] == epoch and {fields, tonumber(fields[8]) <= now}
end
return found
