-- The commit script: loads the state of the space.

META, LOG, NAMES, EXPIRIES, NEWEST, SCHEMAS = unpack(KEYS, next_key, next_key + SPACE_KEYS - 1)
next_key = next_key + SPACE_KEYS

local held = call('HMGET', META, 'head', 'lineage', 'replid', 'floor', 'bytes', 'schemas', 'cuts')
head, lineage, replid, floor = held[1] or '0', held[2] or '0', held[3], held[4] or '0'
bytes, records = tonumber(held[5] or 0), call('XLEN', LOG)
expiring, logged = call('EXISTS', EXPIRIES) == 1, false
local schema_revision, cuts = held[6] or '0', held[7] or ''

-- Whether more than the log's head and size has changed, whether a transaction was empty, whether other
-- entries' expiries have been looked for, and whether work is left for an empty one.
local moved, empty, swept, more = false, false, false, false
