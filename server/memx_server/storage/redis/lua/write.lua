-- The commit script: the writing.

local logs = #expired > faded_count or #changes > 0

-- A Redis that is out of memory refuses the first write of a script if that can take memory, and none behind
-- it. One that takes nothing lets deletes through, with their records.
if ONLY_DELETES then call('HDEL', META, '') end

-- A new lineage begins with a revision. What survived of the old one ends at the newest one.
if (logs or quiet) and server_replid ~= replid then
  if replid then
    local ended = {lineage .. ':' .. last}
    for cut in cuts:gmatch('%S+') do
      if #ended < CUTS_KEPT then ended[#ended + 1] = cut end
    end
    cuts = table.concat(ended, ' ')
  end
  lineage, replid, moved = NEW_LINEAGE, server_replid, true
end

-- The newest record always stays, so an empty log was evicted or deleted: readers must learn of the gap.
-- (The slot is not moving: plan.lua has asked.)
if logs and (head == '0' or records == 0) then
  call('DEL', LOG, NEWEST)
  records = 0
  floor, bytes, moved = head, 0, true
end

-- What to take out of the indexes of expiries and of keys, at the end of the transaction.
local unexpire, unlist, unlisted_schemas = {}, {}, {}

if expiry_revision then
  local expiries = {}
  for _, name in ipairs(expired) do
    if not (faded and faded[name]) then
      -- A name holds no control characters, so these two are all that JSON escapes in it.
      local quoted = '"' .. name:gsub('["\\]', '\\%0') .. '"'
      local text = removal('expire', quoted, expiry_revision, '""', '')
      expiries[#expiries + 1] = {action = 'expire', name = name, text = text}
    end
  end
  append(expiries, expiry_revision)
end
if #changes > 0 then append(changes, revision) end
if logs then last = head end
if quiet and #changes == 0 then last, last_moved = revision, true end

empty = empty or #writes == 0
outcome = {'committed', lineage, tonumber(last), now}
-- Names that this transaction puts anew although they have expired: they stay in the indexes.
local kept_listed, kept_expiring = {}, {}
for _, write in ipairs(writes) do
  local kind, name = write.kind, write.name
  if write.text then
    if write.expires then
      local expires = format('%.0f', write.expires)
      call('SET', write.entry, write.text, 'PXAT', expires)
      -- Of an unlogged key the index holds half a millisecond more, which tells it apart once the entry is gone.
      expiring = expiring + call('ZADD', EXPIRIES, expires .. (write.unlogged and '.5' or ''), name)
      kept_expiring[name] = true
    else
      call('SET', write.entry, write.text)
      if expiring > 0 then unexpire[#unexpire + 1] = name end
    end
    if gone then gone[write.entry] = nil end
    if not write.version_before then call('ZADD', NAMES, 0, name) end
    kept_listed[name] = true
  elseif kind == 'delete' and write.changed then
    call('DEL', write.entry)
    gone = gone or {}
    gone[write.entry] = true
    if expiring > 0 then unexpire[#unexpire + 1] = name end
    unlist[#unlist + 1] = name
  elseif kind == 'put_schema' then
    call('HSET', SCHEMAS, name, write.value)
    schema_revision, moved, schemas_gone = head, true, false
  elseif kind == 'delete_schema' and write.changed then
    unlisted_schemas[#unlisted_schemas + 1] = name
    schema_revision, moved = head, true
  end
  local at = #outcome
  outcome[at + 1], outcome[at + 2] = write.changed and (write.unlogged and 2 or 1) or 0, write.version
  outcome[at + 3] = write.text and write.expires or -1
end

schema_bytes = schema_bytes and schema_bytes + schema_added

if RESULT_SIZE > 0 then
  local words = {lineage}
  for i = 3, #outcome do words[i - 1] = format('%.0f', outcome[i]) end
  call('SET', ANSWER, DIGEST .. '\n' .. table.concat(words, ' ') .. '\n' .. NOTE, 'PX', KEPT_MS)
  local last = math.floor((now_ms + KEPT_MS) / 60000)
  results_kept[last] = (results_kept[last] or 0) + RESULT_SIZE
  result_bytes, results_changed = result_bytes + RESULT_SIZE, true
end

-- From here on everything removes. A key that becomes empty is gone, and in a slot that is moving it must
-- not be touched again.
for _, name in ipairs(expired) do
  if not kept_expiring[name] then unexpire[#unexpire + 1] = name end
  if not kept_listed[name] then unlist[#unlist + 1] = name end
end
if #unexpire > 0 then
  expiring = expiring - call('ZREM', EXPIRIES, unpack(unexpire))
  expiries_gone = expiring == 0
end
if #unlist > 0 then call('ZREM', NAMES, unpack(unlist)) end
if #unlisted_schemas > 0 then
  schemas_gone = call('HLEN', SCHEMAS) == #unlisted_schemas
  call('HDEL', SCHEMAS, unpack(unlisted_schemas))
end
