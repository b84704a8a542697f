-- KEYS: requests. ARGV: digest of a request id. Return the id of the call that it names.
local named, id = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%S+) (%S+)$')
return named == epoch and id
