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

-- The last entry that was compared, and its version: most often it is the one that is written.
local compared, compared_version
for i = 0, COMPARES - 1 do
  local entry = KEYS[FIRST_ENTRY + i]
  local version, revision = standing(entry)
  compared, compared_version = entry, version
  if (revision or '0') ~= ARGV[FIRST_COMPARE + i * COMPARE_ARGS + 1] then
    outcome = {'conflict', i, revision and call('GET', entry)}
    break
  end
end
if outcome then break end
