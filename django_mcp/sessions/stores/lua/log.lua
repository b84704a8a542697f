-- What the steps of the log share. Numbers are whole and at most 2^53; `..` would round the long ones.

local micros = time[1] * 1000000 + time[2]

local function whole(number)
  return string.format('%.0f', number + 0)
end

-- Let a key live at least half of `life` from now on.
local function keep(key, life)
  if redis.call('PTTL', key) < life / 2 then redis.call('PEXPIRE', key, life) end
end

-- Note a member of an index until `life` is over, and forget those whose time is.
local function enlist(index, member, life)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
  redis.call('ZADD', index, now + life, member)
  if redis.call('PTTL', index) < life then redis.call('PEXPIRE', index, life) end
end

-- Begin what a session's streams share, or begin it anew where it is of another epoch. The cursor stays: it stands
-- in a list of changes that has epochs of its own.
local function hold_outlet(outlet, life)
  if redis.call('HGET', outlet, 'epoch') ~= epoch then
    redis.call('HSET', outlet, 'epoch', epoch, 'bytes', 0)
  end
  keep(outlet, life)
end

local function is_held(call, fence)
  local found = redis.call('HMGET', call, 'epoch', 'state', 'fence')
  return found[1] == epoch and found[2] == 'running' and found[3] == fence
end

local function note_progress(call, progress)
  local before = redis.call('HGET', call, 'progress')
  if before and before ~= '' and tonumber(before) >= tonumber(progress) then return false end
  redis.call('HSET', call, 'progress', progress)
  return true
end

-- Say whether a call is what it was when it was read as abandoned.
local function is_abandoned(call, fence, began, cancel)
  local found = redis.call('HMGET', call, 'state', 'fence', 'lease', 'began', 'cancel')
  return found[1] == 'running' and found[2] == fence and tonumber(found[3]) <= now
    and found[4] == began and found[5] == cancel
end

-- Return a stream that is open; nil where there is none.
local function open_stream(stream)
  local found = redis.call('HMGET', stream, 'epoch', 'open', 'kind', 'first', 'last', 'size', 'kept', 'life')
  if found[1] ~= epoch or found[2] ~= '1' then return nil end
  return {
    key = stream, is_post = found[3] == 'post', first = tonumber(found[4]), last = tonumber(found[5]),
    size = tonumber(found[6]), kept = tonumber(found[7]), life = tonumber(found[8])
  }
end

-- Close a stream, whose events are kept for its time.
local function close_stream(row, events)
  if row.kept <= 0 then
    redis.call('DEL', row.key, events)
    return
  end
  redis.call('HSET', row.key, 'open', 0)
  redis.call('PEXPIRE', row.key, row.kept)
  redis.call('PEXPIRE', events, row.kept)
end

-- Return the number from which on a standalone stream keeps its events, with `bodies` behind them, and their size:
-- those from before `oldest` go first, from the front, then what is over the bounds, and never the newest.
local function first_to_keep(row, events, bodies, size, limits, oldest)
  local last, first, has_old = row.last + #bodies, row.first, true
  while first < last do
    local taken
    local is_over = last - first + 1 > limits.events or size > limits.bytes
    if first <= row.last then
      local id = '0-' .. whole(first)
      local fields = redis.call('XRANGE', events, id, id)[1][2]
      has_old = has_old and tonumber(fields[2]) < oldest
      taken = #fields[4]
    else
      has_old = false
      taken = #bodies[first - row.last]
    end
    if not has_old and not is_over then break end
    size = size - taken
    first = first + 1
  end
  return first, size
end

-- Write `bodies` onto an open stream, and keep it.
local function write_events(row, events, bodies, limits, sheds)
  local size = row.size
  for _, body in ipairs(bodies) do size = size + #body end
  local first = row.first
  if sheds and #bodies > 0 then
    first, size = first_to_keep(row, events, bodies, size, limits, micros - row.kept * 1000)
    if first > row.first then redis.call('XTRIM', events, 'MINID', '=', '0-' .. whole(first)) end
  end
  for place, body in ipairs(bodies) do
    local number = row.last + place
    if number >= first then redis.call('XADD', events, '0-' .. whole(number), 't', micros, 'b', body) end
  end
  row.first, row.last, row.size = first, row.last + #bodies, size
  redis.call('HSET', row.key, 'first', whole(first), 'last', whole(row.last), 'size', whole(size))
  keep(row.key, row.life)
  if #bodies > 0 then keep(events, row.life) end
end

-- Append `bodies` to a stream within the bounds, and close it with them if asked to. Return its last number, or a word
-- that says why nothing was done. `condition()` returns such a word, or nil.
local function append(stream, events, outlet, bodies, limits, closes, condition)
  local row = open_stream(stream)
  if not row then return nil, 'closed' end
  local bytes, ordinary, count = 0, 0, #bodies
  for place, body in ipairs(bodies) do
    bytes = bytes + #body
    if not (closes and place == count) then ordinary = ordinary + #body end
  end
  if closes and count > 0 then count = count - 1 end
  if row.is_post and count > 0 then
    local fits = row.last + count < limits.events and row.size + ordinary <= limits.bytes - limits.event
    if not fits then return nil, 'limit' end
  end
  local problem = condition and condition()
  if problem then return nil, problem end
  hold_outlet(outlet, limits.life)
  if row.is_post and not closes and #bodies > 0 then
    local held = tonumber(redis.call('HGET', outlet, 'bytes'))
    if held + bytes > limits.posts then return nil, 'full' end
    redis.call('HSET', outlet, 'bytes', whole(held + bytes))
  end
  local counted = row.size
  write_events(row, events, bodies, limits, not row.is_post)
  if closes then
    if row.is_post and counted > 0 then redis.call('HINCRBY', outlet, 'bytes', whole(-counted)) end
    close_stream(row, events)
  end
  return row.last
end

-- Read the bounds that ARGV begins with, and what follows `from`.
local function bounds()
  return {
    events = tonumber(ARGV[1]), bytes = tonumber(ARGV[2]), event = tonumber(ARGV[3]), posts = tonumber(ARGV[4]),
    life = tonumber(ARGV[5])
  }
end

local function rest(from)
  local found = {}
  for place = from, #ARGV do found[#found + 1] = ARGV[place] end
  return found
end

-- Take its place from the standalone stream that was the session's newest.
local function succeed(former, events)
  local found = redis.call('HMGET', former, 'epoch', 'open', 'kept')
  if found[1] ~= epoch then return end
  redis.call('HINCRBY', former, 'reader', 1)
  if found[2] == '1' then close_stream({key = former, kept = tonumber(found[3])}, events) end
end

-- Begin to number the changes of a server, or begin anew where the epoch is another one: from the clock, so that no
-- number of before is among those that are kept. Return the last number.
local function hold_sequence(sequence, changes, server, life)
  local found = redis.call('HMGET', sequence, 'epoch', 'last')
  local last = tonumber(found[2] or 0)
  if found[1] ~= epoch then
    last = math.max(last + 1, micros)
    redis.call('DEL', changes)
    redis.call('HSET', sequence, 'epoch', epoch, 'server', server, 'last', whole(last), 'floor', whole(last))
  end
  keep(sequence, life)
  if redis.call('EXISTS', changes) == 1 then keep(changes, life) end
  return last
end
