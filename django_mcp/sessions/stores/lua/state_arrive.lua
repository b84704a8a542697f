-- ARGV: id, identity, ticket, generation, cut, order, revoked up to, revoked tokens, touched, milliseconds of the record,
-- then the notes, newest first. Returns what is moving there already, '' for what is in use.
local id, identity, ticket, generation, cut, order, up_to, tokens, touched, life = unpack(ARGV, 1, 10)
local found = record()
if found and not found.ended then
  if not found.moving then return '' end
  if tonumber(string.sub(found.moving, 2)) > tonumber(ticket) then return found.moving end
end
redis.call('DEL', RECORD, NOTES)
for place = 11, #ARGV do redis.call('RPUSH', NOTES, ARGV[place]) end
redis.call('HSET', RECORD, 'identity', identity, 'generation', generation, 'revoked_up_to', up_to,
  'revoked_tokens', tokens, 'touched', touched, 'order', order, 'cut', cut, 'epoch', epoch, 'moving', 'a' .. ticket)
if generation ~= '0' then redis.call('HSET', RECORD, 'foreseen', '1') end
live(life, RECORD, LINES, MANIFESTS, NOTES)
join(id, life)
return false
