-- The commit script, part 4: the writing.
--
-- A record of the log is a stream entry `<revision>-0` with the fields `previous` (the revision of the
-- record before it) and, for each change, `<action>:<before>:<key>` with the change's text. `before` is
-- the revision of the change of this key before, ? where there was none or none is known. So the changes
-- of a key are a chain; NEWEST holds `<newest revision> <first revision> <changes>` for each key that
-- the log knows, ? for a first revision that may not have been the key's first.

local logs, moved = #expired > 0 or #changes > 0, false

-- A new lineage begins with a record. What survived of the old one ends at the present head.
if logs and server_replid ~= replid then
  if replid then
    local ended = {lineage .. ':' .. head}
    for cut in cuts:gmatch('%S+') do
      if #ended < CUTS_KEPT then ended[#ended + 1] = cut end
    end
    cuts = table.concat(ended, ' ')
  end
  lineage, replid, moved = NEW_LINEAGE, server_replid, true
end

-- The newest record always stays, so an empty log was evicted or deleted: readers must learn of the gap.
local records = call('XLEN', LOG)
if logs and (head == '0' or records == 0) then
  call('DEL', LOG, NEWEST)
  records = 0
  floor, bytes, moved = head, 0, true
end

-- Logs changes as one record and tells those who tail the space.
local function append(logged, at)
  local fields, notice, size = {'previous', head}, {lineage .. ' ' .. at .. ' ' .. head .. '\n'}, 0
  for i, change in ipairs(logged) do
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
  call(PUBLISH, LOG, size <= NOTICE_MAX and table.concat(notice) or notice[1])
  for _, change in ipairs(logged) do
    if change.newest then call('HSET', NEWEST, change.name, change.newest) end
  end
  head, bytes, records = at, bytes + size, records + 1
end

if #expired > 0 then
  local expiries = {}
  for i, name in ipairs(expired) do
    -- A name holds no control characters, so these two are all that JSON escapes in it.
    local quoted = '"' .. name:gsub('["\\]', '\\%0') .. '"'
    local text = removal('expire', quoted, expiry_revision, '""', '')
    expiries[i] = {action = 'expire', name = name, text = text}
  end
  append(expiries, expiry_revision)
  call('ZREM', EXPIRIES, unpack(expired))
  call('ZREM', NAMES, unpack(expired))
end
if #changes > 0 then append(changes, revision) end

local outcome = {'committed', lineage, tonumber(head), now, 0}
for _, write in ipairs(writes) do
  local kind, name = write.kind, write.name
  if write.text then
    if write.expires then
      local expires = format('%.0f', write.expires)
      call('SET', write.entry, write.text, 'PXAT', expires)
      call('ZADD', EXPIRIES, expires, name)
    else
      call('SET', write.entry, write.text)
      if expiring then call('ZREM', EXPIRIES, name) end
    end
    if not write.version_before then call('ZADD', NAMES, 0, name) end
  elseif kind == 'delete' and write.changed then
    call('DEL', write.entry)
    if expiring then call('ZREM', EXPIRIES, name) end
    call('ZREM', NAMES, name)
  elseif kind == 'put_schema' then
    call('HSET', SCHEMAS, name, write.value)
    schema_revision, moved = head, true
  elseif kind == 'delete_schema' and write.changed then
    call('HDEL', SCHEMAS, name)
    schema_revision, moved = head, true
  end
  local at = #outcome
  outcome[at + 1], outcome[at + 2] = write.changed and 1 or 0, write.version
  outcome[at + 3] = write.text and write.expires or -1
end

if DIGEST ~= '' then
  local words = {lineage}
  for i = 3, #outcome do words[i - 1] = format('%.0f', outcome[i]) end
  call('SET', ANSWER, DIGEST .. '\n' .. table.concat(words, ' ') .. '\n' .. NOTE, 'PX', ANSWER_MS)
end

-- Trimming; an empty transaction is there to go on with what a commit left.
local more = #due == EXPIRED_AT_ONCE
if logs or #writes == 0 then
  local from, budget = '-', TRIMMED_AT_ONCE
  local too_big = records > 1 and (records > MAX_RECORDS or bytes > MAX_BYTES)
  while too_big and budget > 0 do
    local id, fields = unpack(call('XRANGE', LOG, from, '+', 'COUNT', 1)[1])
    floor, moved = id:match('^%d+'), true
    for i = 3, #fields, 2 do
      local action, name = fields[i]:match('^(%a+):[^:]*:(.*)$')
      local newest = action ~= 'schema' and call('HGET', NEWEST, name)
      if newest and newest:match('^%d+') == floor then call('HDEL', NEWEST, name) end
      bytes = bytes - #fields[i + 1]
    end
    from, records, budget = '(' .. id, records - 1, budget - 1
    too_big = records > 1 and (records > MAX_RECORDS or bytes > MAX_BYTES)
  end
  if from ~= '-' then call('XTRIM', LOG, 'MINID', '=', floor .. '-1') end
  more = more or too_big
end

if logs or moved then call('HSET', META, 'head', head, 'bytes', format('%.0f', bytes)) end
if moved then
  call('HSET', META, 'lineage', lineage, 'replid', replid, 'cuts', cuts,
    'floor', floor, 'schemas', schema_revision)
end

outcome[5] = more and 1 or 0
return outcome
