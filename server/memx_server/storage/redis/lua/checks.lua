-- The commit script: idempotency, schema revision, compares, and whether there is room for the result.

local answer = ANSWER and call('GET', ANSWER)
if answer then
  local digest, rest = answer:match('^([^\n]*)\n(.*)$')
  outcome = digest == DIGEST and {'repeated', rest} or {'mismatch'}
  break
end

if SCHEMA_REVISION ~= '' and SCHEMA_REVISION ~= schema_revision then
  outcome = {'schemas', tonumber(schema_revision)}
  break
end

-- The last entry that was compared, and what is known of it: most often it is the one that is written.
local compared, compared_version, compared_unlogged
for i = 0, COMPARES - 1 do
  local entry = KEYS[FIRST_ENTRY + i]
  local version, revision, unlogged = standing(entry)
  compared, compared_version, compared_unlogged = entry, version, unlogged
  if (revision or '0') ~= ARGV[FIRST_COMPARE + i * COMPARE_ARGS + 1] then
    outcome = {'conflict', i, revision and call('GET', entry)}
    break
  end
end
if outcome then break end

-- RESULT_SIZE is 0 where nothing will be kept: without a token, and for a transaction without writes.
RESULT_SIZE = tonumber(RESULT_SIZE)
if RESULT_SIZE > 0 then
  if results_minute ~= minute then
    local fields = call('HGETALL', META)
    result_bytes, results_minute, results_changed = 0, minute, true
    for i = 1, #fields, 2 do
      local last = fields[i]:match('^results:(%d+)$')
      if last and tonumber(last) < minute then
        results_over[#results_over + 1] = fields[i]
      elseif last then
        result_bytes = result_bytes + fields[i + 1]
      end
    end
  end
  if MAX_RESULT_BYTES > 0 and result_bytes + RESULT_SIZE > MAX_RESULT_BYTES then
    outcome = {'full', 'result_bytes'}
    break
  end
end
