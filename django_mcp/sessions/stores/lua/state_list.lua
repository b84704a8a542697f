-- ARGV: the ids of all members, whose records and lines are the keys after the first seven, in turns. Returns false
-- where those are not the members any more, else of each that has not ended the numbers and addresses.
if redis.call('SCARD', MEMBERS) ~= #ARGV then return false end
local answer = {}
for place, id in ipairs(ARGV) do
  if redis.call('SISMEMBER', MEMBERS, id) == 0 then return false end
  local entry = {id}
  if redis.call('HEXISTS', KEYS[6 + 2 * place], 'ended') == 0 then
    local lines = redis.call('HGETALL', KEYS[7 + 2 * place])
    for at = 1, #lines, 2 do
      entry[#entry + 1] = lines[at]
      entry[#entry + 1] = address_of(lines[at + 1])
    end
  end
  answer[#answer + 1] = entry
end
return answer
