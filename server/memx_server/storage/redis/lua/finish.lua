-- The commit script: the commit itself, then what follows from it.

-- This commits: up to here, no reader is given what has been logged.
if moved then
  call('HSET', META, 'head', head, 'bytes', format('%.0f', bytes), 'lineage', lineage, 'replid', replid or '',
    'cuts', cuts, 'floor', floor, 'schemas', schema_revision, 'format', FORMAT)
  if schema_bytes then call('HSET', META, 'schema_bytes', format('%.0f', schema_bytes)) end
elseif logged then
  call('HSET', META, 'head', head, 'bytes', format('%.0f', bytes))
end
if last_moved then call('HSET', META, 'last', last) end

-- It has happened now, and what follows can't undo it: a refusal is noted for the operator, and not raised.
local refused = false

if results_changed then
  if #results_over > 0 then redis.pcall('HDEL', META, unpack(results_over)) end
  for last, size in pairs(results_kept) do
    local sum = redis.pcall('HINCRBY', META, format('results:%.0f', last), format('%.0f', size))
    refused = type(sum) == 'table' or refused
  end
  redis.pcall('HSET', META, 'results', format('%.0f', result_bytes), 'results_minute', format('%.0f', minute))
end

-- The floor has been written, so it does no harm if one of these fails. HDEL comes once, as NEWEST may become
-- empty: the newest record may hold nothing but a schema.
if from ~= '-' then
  refused = type(redis.pcall('XTRIM', LOG, 'MINID', '=', floor .. '-1')) == 'table' or refused
end
if #forgotten > 0 then
  refused = type(redis.pcall('HDEL', NEWEST, unpack(forgotten))) == 'table' or refused
end

-- Whoever tails the space hears last; the position check of each hub finds what was not heard.
for _, notice in ipairs(notices) do
  refused = type(redis.pcall(PUBLISH, LOG, notice)) == 'table' or refused
end

outcomes[1] = (more and 1 or 0) + (refused and 2 or 0)
