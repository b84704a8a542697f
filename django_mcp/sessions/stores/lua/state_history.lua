-- Returns the head's number, and the lines of the history with their numbers.
return {redis.call('HGET', RECORD, 'generation'), redis.call('HGETALL', LINES)}
