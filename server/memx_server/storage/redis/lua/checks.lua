-- The commit script, part 2: idempotency, schema revision, compares.

local answer = DIGEST ~= '' and call('GET', ANSWER)
if answer then
  local digest, rest = answer:match('^([^\n]*)\n(.*)$')
  return digest == DIGEST and {'repeated', rest} or {'mismatch'}
end

if SCHEMA_REVISION ~= '' and SCHEMA_REVISION ~= schema_revision then
  return {'schemas', tonumber(schema_revision)}
end

for i = 0, COMPARES - 1 do
  local entry = KEYS[FIRST_ENTRY + i]
  local revision = standing(entry)
  if (revision or '0') ~= ARGV[FIRST_COMPARE + i * COMPARE_ARGS + 1] then
    return {'conflict', i, revision and call('GET', entry)}
  end
end
