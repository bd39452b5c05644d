-- The commit script: the clock, the state of the space, and what is done more than once.

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now / 1000)
local ts = format('%s.%06d', clock[1], clock[2])

-- The state of the space. It is read once, kept up to date by each transaction, and written back once.
local held = call('HMGET', META, 'head', 'lineage', 'replid', 'floor', 'bytes', 'schemas', 'cuts',
  'results', 'results_minute', 'schema_bytes', 'format', 'last')
if tonumber(held[11] or 0) > FORMAT then
  return redis.error_reply('NEWER a newer memX writes to this space (format ' .. held[11] .. ')')
end
local head, lineage, replid, floor = held[1] or '0', held[2] or '0', held[3], held[4] or '0'
local bytes, records = tonumber(held[5] or 0), call('XLEN', LOG)
local schema_revision, cuts = held[6] or '0', held[7] or ''
-- The newest revision, which may be one of unlogged keys alone and then has no record. META has it for spaces in
-- which there were such.
local last, last_moved = head, false
if held[12] and tonumber(held[12]) > tonumber(head) then last = held[12] end
-- How many keys expire: EXPIRIES is left alone while that is none.
local expiring = call('ZCARD', EXPIRIES)

-- What this run has removed, and so must not touch again while the slot may be moving: entries by key, and
-- whether EXPIRIES and SCHEMAS have become empty, and with that gone.
local gone, expiries_gone, schemas_gone = nil, false, false
-- The notices of what was logged, for the end of the run.
local notices = {}

-- The results that are kept for idempotency tokens: META holds their bytes in `results`, and in
-- `results:<minute>` the bytes of those that expire in that minute. Redis drops each result by itself and
-- says so to nobody, so in the first run of a minute the bytes are added up anew, without the minutes that
-- are over. So a result is counted until it is gone, and for less than a minute longer.
local minute = math.floor(now_ms / 60000)
local result_bytes, results_minute = tonumber(held[8] or 0), tonumber(held[9] or nil)
local results_kept, results_over, results_changed = {}, {}, false

-- The bytes of all schemas; nil where no one has counted them yet.
local schema_bytes = tonumber(held[10] or nil)

-- The replication id that INFO shows, once a transaction has had to ask.
local server_replid
-- Whether memX's user is known to have every right that writing takes.
local allowed = false
-- Whether the log has grown; whether more than the log's head and size has changed; whether a transaction
-- was empty; whether other entries' expiries have been looked for; whether work is left for an empty one.
local logged, moved, empty, swept, more = false, false, false, false, false

-- Returns the version and the revision of an entry and whether its key is unlogged, nil where there is none.
--
-- An entry that Redis still shows is alive, whatever TIME says by now: Redis holds expiry still while
-- a script runs.
local function standing(entry)
  if gone and gone[entry] then return nil end
  local start = call('GETRANGE', entry, 0, 63)
  if start ~= '' then
    -- Behind the version comes `"ts"`, or before it `"logged"`, which stands for unlogged keys alone.
    local revision, version, member = start:match('^{"revision":(%d+),"version":(%d+),"(%a)')
    return version, revision, member == 'l'
  end
end

local function removal(action, quoted, removed_at, writer, reason)
  return '{"event":"value","action":"' .. action .. '","key":' .. quoted .. ',"revision":' .. removed_at
    .. ',"version":0,"ts":' .. ts .. ',"writer":' .. writer .. reason .. ',"value":null}'
end

-- Logs changes as one record, and keeps the notice for those who tail the space.
--
-- A record of the log is a stream entry `<revision>-0` with the fields `previous` (the revision of the
-- record before it) and, for each change, `<action>:<before>:<key>` with the change's text. `before` is
-- the revision of the change of this key before, ? where there was none or none is known. So the changes
-- of a key are a chain; NEWEST holds `<newest revision> <first revision> <changes>` for each key that
-- the log knows, ? for a first revision that may not have been the key's first.
local function append(changes, at)
  local fields, notice, size = {'previous', head}, {lineage .. ' ' .. at .. ' ' .. head .. '\n'}, 0
  for i, change in ipairs(changes) do
    local before, first, count = '?', floor == '0' and at or '?', '0'
    if change.action ~= 'schema' then
      local newest = call('HGET', NEWEST, change.name)
      if newest then before, first, count = newest:match('^(%d+) (%S+) (%d+)$') end
      change.newest = at .. ' ' .. first .. ' ' .. format('%.0f', count + 1)
    end
    fields[2 * i + 1] = change.action .. ':' .. before .. ':' .. change.name
    fields[2 * i + 2] = change.text
    notice[2 * i], notice[2 * i + 1] = i == 1 and '[' or ',', change.text
    size = size + #change.text
  end
  call('XADD', LOG, at .. '-0', unpack(fields))
  -- A notice that would be too big names the revision only.
  notice[#notice + 1] = ']'
  notices[#notices + 1] = size <= NOTICE_MAX and table.concat(notice) or notice[1]
  for _, change in ipairs(changes) do
    if change.newest then call('HSET', NEWEST, change.name, change.newest) end
  end
  head, bytes, records, logged = at, bytes + size, records + 1, true
end
