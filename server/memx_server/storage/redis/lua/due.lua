-- Tells whether a space has an expiry that is due: 1 yes, 0 not yet, -1 it has no expiries at all.

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if not first then return -1 end
local clock = redis.call('TIME')
return clock[1] * 1000 + clock[2] / 1000 > tonumber(first) and 1 or 0
