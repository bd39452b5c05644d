-- The commit script: the writing.

local logs = #expired > 0 or #changes > 0

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
if logs and (head == '0' or records == 0) then
  call('DEL', LOG, NEWEST)
  records = 0
  floor, bytes, moved = head, 0, true
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

empty = empty or #writes == 0
outcome = {'committed', lineage, tonumber(head), now}
for _, write in ipairs(writes) do
  local kind, name = write.kind, write.name
  if write.text then
    if write.expires then
      local expires = format('%.0f', write.expires)
      call('SET', write.entry, write.text, 'PXAT', expires)
      call('ZADD', EXPIRIES, expires, name)
      expiring = true
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

schema_bytes = schema_bytes and schema_bytes + schema_added

if RESULT_SIZE > 0 then
  local words = {lineage}
  for i = 3, #outcome do words[i - 1] = format('%.0f', outcome[i]) end
  call('SET', ANSWER, DIGEST .. '\n' .. table.concat(words, ' ') .. '\n' .. NOTE, 'PX', KEPT_MS)
  local last = math.floor((now_ms + KEPT_MS) / 60000)
  results_kept[last] = (results_kept[last] or 0) + RESULT_SIZE
  result_bytes, results_changed = result_bytes + RESULT_SIZE, true
end
