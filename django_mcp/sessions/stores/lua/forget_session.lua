-- Delete all that is named, unless there is more by now. KEYS: streams, calls, questions, then whatever is to go.
-- ARGV: the names that were in these three.
local named = {}
for _, name in ipairs(ARGV) do named[name] = true end
for index = 1, 3 do
  for _, name in ipairs(redis.call('ZRANGE', KEYS[index], 0, -1)) do
    if not named[name] then return false end
  end
end
for _, key in ipairs(KEYS) do redis.call('DEL', key) end
return true
