-- The commit script, part 1: its arguments, the clock, the state of the space.
--
-- It commits one transaction of a space, or says what stood in its way. Its parts are joined in this
-- order: space, checks, plan, write. Before them stand the constants MAX_RECORDS, MAX_BYTES, MAX_KEYS,
-- NOTICE_MAX and ANSWER_MS (commits.py).
--
-- Redis does not roll back a script that fails half-way, so every check comes before the first write,
-- and the first write (XADD) is one that Redis refuses when it is out of memory or is a replica. Values
-- are bytes that are only ever joined, never parsed. Revisions are text throughout, as Lua's own
-- conversion of numbers rounds them.
--
-- It reads from top to bottom and has few functions: Lua would make each of them anew at every run,
-- which costs as much as a command of Redis.

local META, LOG, NAMES, EXPIRIES, NEWEST, SCHEMAS, ANSWER = unpack(KEYS, 1, 7)
local FIRST_ENTRY = 8

local NEW_LINEAGE, WRITER, SCHEMA_REVISION, DIGEST, NOTE, PUBLISH = unpack(ARGV, 1, 6)
local COMPARES = tonumber(ARGV[7])
local FIRST_COMPARE, COMPARE_ARGS, WRITE_ARGS = 8, 2, 7
local FIRST_WRITE = FIRST_COMPARE + COMPARES * COMPARE_ARGS

-- The most that one commit does for others.
local EXPIRED_AT_ONCE, TRIMMED_AT_ONCE = 100, 100
-- Ended lineages that a cursor may still come from.
local CUTS_KEPT = 32

local call, format = redis.call, string.format

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now / 1000)
local ts = format('%s.%06d', clock[1], clock[2])

local held = call('HMGET', META, 'head', 'lineage', 'replid', 'floor', 'bytes', 'schemas', 'cuts')
local head = held[1] or '0'
local lineage = held[2] or '0'
local replid = held[3]
local floor = held[4] or '0'
local bytes = tonumber(held[5] or 0)
local schema_revision = held[6] or '0'
local cuts = held[7] or ''
local expiring = call('EXISTS', EXPIRIES) == 1

-- Returns the revision and the version of an entry, nil where there is none.
--
-- An entry that Redis still shows is alive, whatever TIME says by now: Redis holds expiry still while
-- a script runs.
local function standing(entry)
  local start = call('GETRANGE', entry, 0, 63)
  if start ~= '' then
    return start:match('^{"revision":(%d+),"version":(%d+)')
  end
end
