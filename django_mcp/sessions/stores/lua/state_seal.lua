-- ARGV: the head's number, the ticket.
local found = record()
if not found or found.ended or found.epoch ~= epoch or found.generation ~= ARGV[1] then return false end
if found.moving then
  local is_arriving = string.sub(found.moving, 1, 1) == 'a'
  if is_arriving or tonumber(string.sub(found.moving, 2)) > tonumber(ARGV[2]) then return false end
end
redis.call('HSET', RECORD, 'moving', 'l' .. ARGV[2])
return true
