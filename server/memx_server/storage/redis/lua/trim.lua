-- The commit script: the surplus of the log, looked for before anything of it is removed. A run that logs
-- nothing (an empty transaction) is there to go on with what others left.

-- Behind which id the log is trimmed, and the keys of which no change stays.
local from, forgotten = '-', {}
if logged or empty then
  -- Counted in changes, since a record may hold many.
  local budget, some = TRIMMED_AT_ONCE, 1
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
        if newest and newest:match('^%d+') == floor then forgotten[#forgotten + 1] = name end
        bytes = bytes - #fields[i + 1]
      end
      from, records, budget = '(' .. id, records - 1, budget - #fields / 2 + 1
    end
    some = math.min(2 * some, READ_AT_ONCE)
    too_big = records > 1 and (records > MAX_RECORDS or bytes > MAX_BYTES)
  end
  more = more or too_big
end
