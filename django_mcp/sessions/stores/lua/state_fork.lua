-- ARGV: generation or '' for the head, history, id of the fork, its identity, its touched, '1' where the index knows of
-- more than generation 0, milliseconds of its record. The keys after the first seven are the fork's record, lines and
-- manifests. Returns the generation that was copied, its address and manifest.
local number, history, id, identity, touched, foreseen, life = unpack(ARGV)
local found = record()
local why = closed(found)
if why then return refused(why, found) end
if number == '' then number = found.generation end
if not is_kept(found, number, history) then return refused('not kept', found) end
local address, manifest = '-', ''
if number ~= '0' then
  address = address_of(redis.call('HGET', LINES, number))
  manifest = redis.call('HGET', MANIFESTS, number)
end
if address ~= '-' and foreseen ~= '1' then return refused('untouched', found) end
redis.call('HSET', KEYS[8], 'identity', identity, 'generation', address == '-' and '0' or '1', 'revoked_up_to', '-1',
  'revoked_tokens', '[]', 'touched', touched, 'order', '1', 'epoch', epoch)
if foreseen == '1' then redis.call('HSET', KEYS[8], 'foreseen', '1') end
if address ~= '-' then
  redis.call('HSET', KEYS[9], '1', line(1, #manifest, number, address, ''))
  redis.call('HSET', KEYS[10], '1', manifest)
end
redis.call('SADD', MEMBERS, id)
live(life, KEYS[8], KEYS[9], KEYS[10])
if redis.call('PTTL', MEMBERS) < tonumber(life) then live(life, MEMBERS) end
return {'done', number, address, manifest}
