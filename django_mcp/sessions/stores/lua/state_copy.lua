-- ARGV: generation or '' for the head, milliseconds of a touch, history, milliseconds of the record, then what to
-- revoke: 'up to' and a generation or '', or 'one', a fingerprint and the most that there may be.
local number, touch, history, life = unpack(ARGV, 1, 4)
local found = record()
local why = closed(found)
if why then return refused(why, found) end
if number == '' then number = found.generation end
if not is_kept(found, number, history) then return refused('not kept', found) end
local tokens = cjson.decode(found.revoked_tokens)
if ARGV[5] == 'one' then
  local is_known = false
  for _, token in ipairs(tokens) do is_known = is_known or token == ARGV[6] end
  if not is_known then
    if #tokens >= tonumber(ARGV[7]) then return refused('too many', found) end
    tokens[#tokens + 1] = ARGV[6]
  end
end
if untouched(found, touch) then return refused('untouched', found) end
if ARGV[5] == 'one' then
  found.revoked_tokens = cjson.encode(tokens)
elseif ARGV[5] == 'up to' then
  local least = tonumber(found.generation)
  if ARGV[6] ~= '' then least = math.min(least, tonumber(ARGV[6])) end
  found.revoked_up_to = digits(math.max(tonumber(found.revoked_up_to), least))
end
redis.call('HSET', RECORD, 'revoked_up_to', found.revoked_up_to, 'revoked_tokens', found.revoked_tokens)
local address, manifest = '-', ''
if number ~= '0' then
  address = address_of(redis.call('HGET', LINES, number))
  manifest = redis.call('HGET', MANIFESTS, number) or ''
end
push(found, #manifest, number, address, '', manifest, history, life)
return {'done', told(found)}
