-- The log and what hangs on it: each key's newest revision, notices to those who tail, trimming.
--
-- A record is a stream entry `<revision>-0` with the fields `previous` (the revision of the record
-- before it) and, for each change, `<action>:<before>:<key>` with the change's text. `before` is the
-- revision of the change of this key before, ? where there was none or none is known. So the changes of
-- a key are a chain; NEWEST holds `<newest revision> <first revision> <changes>` for each key that the
-- log knows, ? for a first revision that may not have been the key's first.

-- The newest record always stays, so an empty log was evicted or deleted: readers must learn of the gap.
local function mend_log()
  if space.head == '0' or call('XLEN', LOG) == 0 then
    call('DEL', LOG, NEWEST)
    space.floor, space.bytes, space.moved = space.head, 0, true
  end
end

-- Logs a transaction as one record and tells those who tail the space. `revision` is text.
local function append(changes, revision)
  local fields, texts, size = {'previous', space.head}, {}, 0
  for i, change in ipairs(changes) do
    local before, first, count = '?', space.floor == '0' and revision or '?', '0'
    if change.action ~= 'schema' then
      local newest = call('HGET', NEWEST, change.name)
      if newest then before, first, count = newest:match('^(%d+) (%S+) (%d+)$') end
      change.newest = revision .. ' ' .. first .. ' ' .. whole(count + 1)
    end
    fields[2 * i + 1] = change.action .. ':' .. before .. ':' .. change.name
    fields[2 * i + 2], texts[i] = change.text, change.text
    size = size + #change.text
  end
  call('XADD', LOG, revision .. '-0', unpack(fields))
  -- A notice that would be too big names the revision only.
  local notice = size <= NOTICE_MAX and '[' .. table.concat(texts, ',') .. ']' or ''
  call(PUBLISH, LOG, space.lineage .. ' ' .. revision .. ' ' .. space.head .. '\n' .. notice)
  for _, change in ipairs(changes) do
    if change.newest then call('HSET', NEWEST, change.name, change.newest) end
  end
  space.head, space.bytes = revision, space.bytes + size
end

-- Trims the log; returns whether a later commit has to go on with it.
local function trim()
  local records = call('XLEN', LOG)
  if records <= MAX_RECORDS and space.bytes <= MAX_BYTES then return false end

  local function too_big()
    return records > 1 and (records > MAX_RECORDS or space.bytes > MAX_BYTES)
  end

  local from, budget = '-', TRIMMED_AT_ONCE
  while too_big() and budget > 0 do
    local id, fields = unpack(call('XRANGE', LOG, from, '+', 'COUNT', 1)[1])
    space.floor, space.moved = id:match('^%d+'), true
    for i = 3, #fields, 2 do
      local action, name = fields[i]:match('^(%a+):[^:]*:(.*)$')
      local newest = action ~= 'schema' and call('HGET', NEWEST, name)
      if newest and newest:match('^%d+') == space.floor then call('HDEL', NEWEST, name) end
      space.bytes = space.bytes - #fields[i + 1]
    end
    from, records, budget = '(' .. id, records - 1, budget - 1
  end
  if from ~= '-' then
    call('XTRIM', LOG, 'MINID', '=', space.floor .. '-1')
  end
  return too_big()
end
