-- What the steps of the state store share. Their first keys are always these, all of one conversation and its family.
local RECORD, LINES, MANIFESTS, NOTES, MEMBERS, BLOBS, SPAN = unpack(KEYS, 1, 7)

local FIELDS = {
  'identity', 'ended', 'generation', 'revoked_up_to', 'revoked_tokens', 'touched', 'foreseen', 'garbage', 'epoch',
  'moving',
}

local function digits(number)
  return string.format('%.0f', number)
end

local function record()
  local values = redis.call('HMGET', RECORD, unpack(FIELDS))
  if not values[1] then return nil end
  local found = {}
  for place, name in ipairs(FIELDS) do found[name] = values[place] end
  return found
end

-- A record as the store reads it, with one of its generations; the head where none is named.
local function told(found, number)
  if not found then return false end
  local chosen = number or found.generation
  local answer = {}
  for place, name in ipairs(FIELDS) do answer[place] = found[name] end
  for _, more in ipairs({
    epoch, digits(now), chosen, redis.call('HGET', LINES, chosen), redis.call('HGET', MANIFESTS, chosen),
  }) do answer[#answer + 1] = more end
  return answer
end

local function refused(why, found)
  return {'refused', why, told(found)}
end

-- Why nothing may change it, if so.
local function closed(found)
  if not found then return 'missing' end
  if found.ended then return 'ended' end
  if found.moving then return 'moving' end
  if found.epoch ~= epoch then return 'doubtful' end
  return nil
end

-- Whether the index has to be told of its use before its head may move.
local function untouched(found, milliseconds)
  local is_stale = now - tonumber(found.touched) > tonumber(milliseconds)
  return is_stale or (found.generation == '0' and not found.foreseen)
end

local function is_kept(found, number, history)
  local head, wanted = tonumber(found.generation), tonumber(number)
  if wanted > head or wanted < 0 or wanted <= head - tonumber(history) then return false end
  return wanted == 0 or redis.call('HEXISTS', LINES, number) + redis.call('HEXISTS', MANIFESTS, number) == 2
end

-- Milliseconds from now; '' is for ever.
local function live(milliseconds, ...)
  for _, key in ipairs({...}) do
    if milliseconds == '' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, milliseconds) end
  end
end

-- Keep the blobs that stand in ARGV from `first` on, each a digest and a body, whose keys follow the first seven, for so
-- many milliseconds at the least. Returns their bytes.
local function keep(first, milliseconds)
  local size, ends = 0, 0
  if #ARGV < first then return size end
  if milliseconds ~= '' then
    ends = tonumber(redis.call('HGET', SPAN, 'until') or '0')
    if ends < now + tonumber(milliseconds) and redis.call('ZCARD', BLOBS) == 0 then
      ends = now + tonumber(milliseconds)
      redis.call('HSET', SPAN, 'until', digits(ends), 'reached', digits(ends))
    end
    milliseconds = digits(math.max(ends - now, tonumber(milliseconds)))
  end
  for place = first, #ARGV, 2 do
    local key = KEYS[8 + (place - first) / 2]
    if redis.call('EXISTS', key) == 0 then redis.call('SET', key, ARGV[place + 1]) end
    live(milliseconds, key)
    redis.call('ZADD', BLOBS, digits(now), ARGV[place])
    size = size + #ARGV[place + 1]
  end
  live(milliseconds, BLOBS, SPAN)
  return size
end

-- Let a conversation be of the family, which lives as long as it does.
local function join(id, milliseconds)
  redis.call('SADD', MEMBERS, id)
  if milliseconds == '' or redis.call('PTTL', MEMBERS) < tonumber(milliseconds) then live(milliseconds, MEMBERS) end
end

local function line(order, size, copied, address, call)
  return table.concat({digits(now), digits(order), digits(size), copied, address, call}, ' ')
end

-- The address in a line of the history, the manifest's name; '-' where there is none.
local function address_of(text)
  return string.match(text, '^%S+ %S+ %S+ %S+ (%S+)')
end

local function push(found, size, copied, address, call, manifest, history, milliseconds)
  local number = tonumber(found.generation) + 1
  local order = redis.call('HINCRBY', RECORD, 'order', 1)
  redis.call('HSET', LINES, digits(number), line(order, size, copied, address, call))
  redis.call('HSET', MANIFESTS, digits(number), manifest)
  redis.call('HSET', RECORD, 'generation', digits(number))
  local cut, last = tonumber(redis.call('HGET', RECORD, 'cut') or '0'), number - tonumber(history)
  for old = cut + 1, last do
    redis.call('HDEL', LINES, digits(old))
    redis.call('HDEL', MANIFESTS, digits(old))
  end
  if last > cut then redis.call('HSET', RECORD, 'cut', digits(last), 'garbage', '1') end
  live(milliseconds, RECORD, LINES, MANIFESTS)
  found.generation = digits(number)
end
