-- What every step begins with. `RedisLink.run` sends first which epoch each run it knows belongs to, and whether the
-- step writes; the last key is then where its result is left for whoever sends it again.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local epoch = string.match(ARGV[1], run .. '=(%x+)')
if not epoch then return {'run', run} end

local once = nil
if ARGV[2] == '1' then
  once = table.remove(KEYS)
  local answer = redis.call('GET', once)
  if answer then return {'done', cmsgpack.unpack(answer)} end
end
table.remove(ARGV, 1)
table.remove(ARGV, 1)

-- Milliseconds since 1970, by the clock of this server.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function body()
--[[ body ]]
end

local result = body()
if once then
  redis.call('SET', once, cmsgpack.pack(result), 'EX', 60)
end
return {'done', result}
