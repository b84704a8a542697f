-- KEYS: calls, running, requests, stream, each of the calls.
-- ARGV: session, server, scope, owner, name of the stream, lease, life, how many may run at once (0: any number),
-- then seven of each call: id, request id, its digest, digest, payload, whether it is repeatable, whether it began.
local lease, life, most = now + tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local count = #KEYS - 4
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if most > 0 and redis.call('ZCARD', KEYS[2]) + count > most then return 'full' end
-- Who looked for a call that was announced, and found none, leaves a word that it is not to come any more.
for place = 1, count do
  local state = redis.call('HGET', KEYS[place + 4], 'state')
  if state then return state == 'void' and 'void' or 'twice' end
end
for place = 1, count do
  local key, at = KEYS[place + 4], 8 + (place - 1) * 7
  local id, request = ARGV[at + 1], ARGV[at + 3]
  local named, its = string.match(redis.call('HGET', KEYS[3], request) or '', '^(%S+) (%S+)$')
  if named ~= epoch or not redis.call('ZSCORE', KEYS[2], its) then
    redis.call('HSET', KEYS[3], request, epoch .. ' ' .. id)
  end
  redis.call('HSET', key, 'epoch', epoch, 'fence', 1, 'server', ARGV[2], 'scope', ARGV[3], 'session', ARGV[1],
    'stream', ARGV[5], 'request', ARGV[at + 2], 'named', request, 'digest', ARGV[at + 4], 'payload', ARGV[at + 5],
    'repeatable', ARGV[at + 6], 'owner', ARGV[4], 'lease', lease, 'began', ARGV[at + 7], 'cancel', 0,
    'progress', '', 'state', 'running', 'begun', now, 'ended', '')
  redis.call('PEXPIRE', key, life)
  enlist(KEYS[2], id, life)
  enlist(KEYS[1], id, life)
end
redis.call('PEXPIRE', KEYS[3], life)
if ARGV[5] ~= '' and redis.call('HGET', KEYS[4], 'epoch') == epoch then
  redis.call('HINCRBY', KEYS[4], 'calls', count)
end
return 'begun'
