-- The log and what hangs on it: records, each key's revisions, notices to those who tail, trimming.

-- A log that is not what the space remembers was evicted or deleted: readers must learn of the gap.
local function mend_log()
  if call('XLEN', LOG) ~= space.records then
    call('DEL', LOG, REVISIONS)
    space.floor, space.records, space.bytes = space.head, 0, 0
  end
end

-- Notes a revision of a key: one byte tells whether older ones may have been dropped, then 8 for each.
local function remember(name, revision)
  local noted = call('HGET', REVISIONS, name) or (space.floor == 0 and '0' or '1')
  noted = noted .. struct.pack('>I8', revision)
  if #noted > 1 + 8 * HISTORY_KEPT then
    noted = '1' .. noted:sub(-8 * HISTORY_KEPT)
  end
  call('HSET', REVISIONS, name, noted)
end

-- Drops the revisions of a key up to `revision`.
local function forget(name, revision)
  local noted = call('HGET', REVISIONS, name)
  if not noted then return end
  local kept = 2
  while kept <= #noted and struct.unpack('>I8', noted, kept) <= revision do
    kept = kept + 8
  end
  if kept > #noted then
    call('HDEL', REVISIONS, name)
  elseif kept > 2 then
    call('HSET', REVISIONS, name, '1' .. noted:sub(kept))
  end
end

-- Tells those who tail the space; a notice that would be too big names the revision only.
local function publish(changes, revision, size)
  local notice = space.lineage .. ' ' .. whole(revision) .. ' ' .. whole(space.head) .. '\n'
  if size <= NOTICE_MAX then
    local parts = {}
    for i, change in ipairs(changes) do
      parts[i] = '[' .. change.quoted .. ',"' .. change.action .. '",' .. change.data .. ']'
    end
    notice = notice .. '[' .. table.concat(parts, ',') .. ']'
  end
  call(PUBLISH, LOG, notice)
end

-- Logs a transaction as one record.
local function append(changes, revision)
  local fields, size = {'previous', whole(space.head)}, 0
  for _, change in ipairs(changes) do
    fields[#fields + 1] = change.action .. ':' .. change.name
    fields[#fields + 1] = change.data
    size = size + #change.data
  end
  call('XADD', LOG, whole(revision) .. '-0', unpack(fields))
  for _, change in ipairs(changes) do
    if change.action ~= 'schema' then remember(change.name, revision) end
  end
  publish(changes, revision, size)
  space.head = revision
  space.records, space.bytes = space.records + 1, space.bytes + size
end

local function too_big()
  return space.records > 1 and (space.records > MAX_RECORDS or space.bytes > MAX_BYTES)
end

-- Drops the oldest record; returns its id.
local function drop_oldest(from)
  local id, fields = unpack(call('XRANGE', LOG, from, '+', 'COUNT', 1)[1])
  local revision = tonumber(id:match('^%d+'))
  for i = 3, #fields, 2 do
    local action, name = fields[i]:match('^(%a+):(.*)$')
    if action ~= 'schema' then forget(name, revision) end
    space.bytes = space.bytes - #fields[i + 1]
  end
  space.records, space.floor = space.records - 1, revision
  return id
end

-- Trims the log; returns whether a later commit has to go on with it.
local function trim()
  local from, budget = '-', TRIMMED_AT_ONCE
  while too_big() and budget > 0 do
    from, budget = '(' .. drop_oldest(from), budget - 1
  end
  if from ~= '-' then
    call('XTRIM', LOG, 'MINID', '=', whole(space.floor + 1))
  end
  return too_big()
end
