-- KEYS: claim. Return its digest, how it stands and its outcome; false where it is free.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'digest', 'outcome', 'lease', 'expires')
if not found[2] then return false end
local is_held = found[1] == epoch and found[2] == 'running' and tonumber(found[5]) > now
if not is_held and tonumber(found[6]) <= now then return false end
if is_held then return {found[3], 'running', ''} end
if found[1] == epoch and found[2] == 'done' then return {found[3], 'done', found[4]} end
return {found[3], 'interrupted', ''}
