-- The first part of the commit script: its arguments, the clock, and the state of the space.
--
-- The parts are joined in this order: space.lua, log.lua, writes.lua, commit.lua.
--
-- Redis does not roll back a script that fails half-way, so every check comes before the first write,
-- and the first write (XADD) is one that Redis refuses when it is out of memory or is a replica. Values
-- are bytes that are only ever joined, never parsed. Numbers become text by %.0f, as tostring rounds.

local META, LOG, NAMES, EXPIRIES, REVISIONS, SCHEMAS, ANSWER = unpack(KEYS, 1, 7)
local FIRST_ENTRY = 8

local NEW_LINEAGE, WRITER, SCHEMA_REVISION, DIGEST, NOTE, ANSWER_MS, PUBLISH = unpack(ARGV, 1, 7)
local MAX_RECORDS, MAX_BYTES = tonumber(ARGV[8]), tonumber(ARGV[9])
local HISTORY_KEPT, NOTICE_MAX = tonumber(ARGV[10]), tonumber(ARGV[11])
local COMPARES = tonumber(ARGV[12])
local FIRST_COMPARE, COMPARE_ARGS, WRITE_ARGS = 13, 2, 7

-- The most that one commit does for others.
local EXPIRED_AT_ONCE, TRIMMED_AT_ONCE = 100, 100
-- Ended lineages that a cursor may still come from.
local CUTS_KEPT = 32

local call = redis.call

local function whole(number)
  return string.format('%.0f', number)
end

local clock = call('TIME')
local NOW = clock[1] * 1000000 + clock[2]
local NOW_MS = math.floor(NOW / 1000)
local TS = string.format('%s.%06d', clock[1], clock[2])

local held = call('HMGET', META,
  'head', 'lineage', 'replid', 'floor', 'records', 'bytes', 'schemas', 'cuts')
local space = {
  head = tonumber(held[1]) or 0,
  lineage = held[2],
  replid = held[3],
  floor = tonumber(held[4]) or 0,
  records = tonumber(held[5]) or 0,
  bytes = tonumber(held[6]) or 0,
  schemas = tonumber(held[7]) or 0,
  cuts = held[8] or '',
}

-- Returns the next revision, in a new lineage where the history may have been broken.
--
-- A replication id stands for an unbroken history: a restart and a promotion, which may both have lost
-- writes, give the server another one. What survived of the old lineage ends at the present head.
local function continue_lineage()
  local replid = call('INFO', 'replication'):match('master_replid:(%x+)') or ''
  if space.lineage and space.replid == replid then
    return space.head + 1
  end
  if space.lineage then
    local cuts = {space.lineage .. ':' .. whole(space.head)}
    for cut in space.cuts:gmatch('%S+') do
      if #cuts < CUTS_KEPT then cuts[#cuts + 1] = cut end
    end
    space.cuts = table.concat(cuts, ' ')
  end
  space.lineage, space.replid, space.opened = NEW_LINEAGE, replid, true
  return math.max(space.head + 1, NOW)
end

local function save_space()
  call('HSET', META, 'head', whole(space.head), 'floor', whole(space.floor),
    'records', space.records, 'bytes', whole(space.bytes), 'schemas', whole(space.schemas))
  if space.opened then
    call('HSET', META, 'lineage', space.lineage, 'replid', space.replid, 'cuts', space.cuts)
  end
end
