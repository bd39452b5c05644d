-- The first part of the commit script: its arguments, the clock, and the state of the space.
--
-- The parts are joined in this order: space.lua, log.lua, writes.lua, commit.lua. Before them stand the
-- constants MAX_RECORDS, MAX_BYTES, NOTICE_MAX, ANSWER_MS (commits.py).
--
-- Redis does not roll back a script that fails half-way, so every check comes before the first write,
-- and the first write (XADD) is one that Redis refuses when it is out of memory or is a replica. Values
-- are bytes that are only ever joined, never parsed. Numbers become text by %.0f, as tostring rounds.
--
-- Lua makes every function below anew at each run, so there are few, and rare ones are made inside of
-- those that need them.

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

local function whole(number)
  return format('%.0f', number)
end

local clock = call('TIME')
local NOW = clock[1] * 1000000 + clock[2]
local NOW_MS = math.floor(NOW / 1000)
local TS = format('%s.%06d', clock[1], clock[2])

local held = call('HMGET', META, 'head', 'lineage', 'replid', 'floor', 'bytes', 'schemas', 'cuts')
local space = {
  head = held[1] or '0', -- as text
  lineage = held[2] or '0',
  replid = held[3],
  floor = held[4] or '0', -- as text
  bytes = tonumber(held[5] or 0),
  schemas = held[6] or '0', -- as text
  cuts = held[7] or '',
  moved = false, -- whether more than head and bytes is to be saved
}

-- Opens a new lineage where the history may have been broken.
--
-- A replication id stands for an unbroken history: a restart and a promotion, which may both have lost
-- writes, give the server another one. What survived of the old lineage ends at the present head.
--
-- Returns what the next revision is counted from.
local function continue_lineage()
  local info = call('INFO', 'replication')
  local _, before = info:find('master_replid:', 1, true)
  local replid = before and info:sub(before + 1, before + 40) or ''
  local head = tonumber(space.head)
  if space.replid == replid then return head end

  if space.replid then
    local cuts = {space.lineage .. ':' .. space.head}
    for cut in space.cuts:gmatch('%S+') do
      if #cuts < CUTS_KEPT then cuts[#cuts + 1] = cut end
    end
    space.cuts = table.concat(cuts, ' ')
  end
  space.lineage, space.replid, space.moved = NEW_LINEAGE, replid, true
  return math.max(head, NOW - 1)
end

local function save_space()
  call('HSET', META, 'head', space.head, 'bytes', whole(space.bytes))
  if space.moved then
    call('HSET', META, 'lineage', space.lineage, 'replid', space.replid, 'cuts', space.cuts,
      'floor', space.floor, 'schemas', space.schemas)
  end
end
