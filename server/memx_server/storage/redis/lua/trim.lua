-- The commit script: trimming the log, and the new state of the space. A run that logs nothing (an empty
-- transaction) is there to go on with what others left.

if logged or empty then
  -- Counted in changes, since a record may hold many.
  local from, budget, some = '-', TRIMMED_AT_ONCE, 1
  local too_big = records > 1 and (records > MAX_RECORDS or bytes > MAX_BYTES)
  while too_big and budget > 0 do
    local surplus = math.max(records - MAX_RECORDS, 1)
    for _, record in ipairs(call('XRANGE', LOG, from, '+', 'COUNT', math.min(surplus, some))) do
      if budget <= 0 then break end
      local id, fields = unpack(record)
      floor, moved = id:match('^%d+'), true
      for i = 3, #fields, 2 do
        local action, name = fields[i]:match('^(%a+):[^:]*:(.*)$')
        local newest = action ~= 'schema' and call('HGET', NEWEST, name)
        if newest and newest:match('^%d+') == floor then call('HDEL', NEWEST, name) end
        bytes = bytes - #fields[i + 1]
      end
      from, records, budget = '(' .. id, records - 1, budget - #fields / 2 + 1
    end
    some = math.min(2 * some, READ_AT_ONCE)
    too_big = records > 1 and (records > MAX_RECORDS or bytes > MAX_BYTES)
  end
  if from ~= '-' then call('XTRIM', LOG, 'MINID', '=', floor .. '-1') end
  more = more or too_big
end

if logged or moved then call('HSET', META, 'head', head, 'bytes', format('%.0f', bytes)) end
if moved then
  call('HSET', META, 'lineage', lineage, 'replid', replid, 'cuts', cuts,
    'floor', floor, 'schemas', schema_revision)
  if schema_bytes then call('HSET', META, 'schema_bytes', format('%.0f', schema_bytes)) end
end
if results_changed then
  if #results_over > 0 then call('HDEL', META, unpack(results_over)) end
  for last, size in pairs(results_kept) do
    call('HINCRBY', META, format('results:%.0f', last), format('%.0f', size))
  end
  call('HSET', META, 'results', format('%.0f', result_bytes), 'results_minute', format('%.0f', minute))
end
