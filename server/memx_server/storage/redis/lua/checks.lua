-- The commit script: idempotency, schema revision, compares.

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

for i = 0, COMPARES - 1 do
  local entry = KEYS[FIRST_ENTRY + i]
  local revision = standing(entry)
  if (revision or '0') ~= ARGV[FIRST_COMPARE + i * COMPARE_ARGS + 1] then
    outcome = {'conflict', i, revision and call('GET', entry)}
    break
  end
end
if outcome then break end
