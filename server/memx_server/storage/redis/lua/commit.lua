-- Commits one transaction of a space, or says what stood in its way.

-- The checks: idempotency, schema revision, compares.
local function refusal()
  local answer = DIGEST ~= '' and call('GET', ANSWER)
  if answer then
    local digest, rest = answer:match('^([^\n]*)\n(.*)$')
    return digest == DIGEST and {'repeated', rest} or {'mismatch'}
  end
  if SCHEMA_REVISION ~= '' and tonumber(SCHEMA_REVISION) ~= space.schemas then
    return {'schemas', space.schemas}
  end
  for i = 0, COMPARES - 1 do
    local entry = KEYS[FIRST_ENTRY + i]
    local found = standing(entry)
    if (found and found.revision or 0) ~= tonumber(ARGV[FIRST_COMPARE + i * COMPARE_ARGS + 1]) then
      return {'conflict', i, found and call('GET', entry)}
    end
  end
end

-- Returns the names of entries that have expired without a record of it, and whether there are more.
local function expired_names(writes)
  local names, seen = {}, {}
  for i = 0, COMPARES - 1 do
    if standing(KEYS[FIRST_ENTRY + i]) then seen[ARGV[FIRST_COMPARE + i * COMPARE_ARGS]] = true end
  end
  for _, write in ipairs(writes) do
    if write.entry then
      if not standing(write.entry) and call('ZSCORE', EXPIRIES, write.name) then
        names[#names + 1] = write.name
      end
      seen[write.name] = true
    end
  end
  local due = call('ZRANGEBYSCORE', EXPIRIES, '-inf', whole(NOW_MS - 1), 'LIMIT', 0, EXPIRED_AT_ONCE)
  for _, name in ipairs(due) do
    if not seen[name] then names[#names + 1] = name end
  end
  return names, #due == EXPIRED_AT_ONCE
end

local function log_expired(names, revision)
  local changes = {}
  for i, name in ipairs(names) do
    changes[i] = expire_change(name, whole(revision))
  end
  append(changes, revision)
  call('ZREM', EXPIRIES, unpack(names))
  call('ZREM', NAMES, unpack(names))
end

local function answer_of(lineage, writes)
  local outcome = {'committed', lineage or '0', space.head, NOW, 0}
  for _, write in ipairs(writes) do
    outcome[#outcome + 1] = write.changed and 1 or 0
    outcome[#outcome + 1] = write.version
    outcome[#outcome + 1] = write.expires or -1
  end
  return outcome
end

local function keep_answer(outcome)
  local words = {outcome[2]}
  for i = 3, #outcome do words[i - 1] = whole(outcome[i]) end
  call('SET', ANSWER, DIGEST .. '\n' .. table.concat(words, ' ') .. '\n' .. NOTE, 'PX', ANSWER_MS)
end

local function commit()
  local lineage = space.lineage
  local writes = read_writes()
  local expired, more = expired_names(writes)
  local revision = continue_lineage()
  local own_revision = #expired > 0 and revision + 1 or revision
  local changes = {}
  for _, write in ipairs(writes) do
    changes[#changes + 1] = plan[write.kind](write, whole(own_revision))
  end

  local logs = #expired > 0 or #changes > 0
  if logs then
    lineage = space.lineage
    mend_log()
    if #expired > 0 then log_expired(expired, revision) end
    if #changes > 0 then append(changes, own_revision) end
  end
  for _, write in ipairs(writes) do
    if write.changed then apply[write.kind](write) end
  end
  local outcome = answer_of(lineage, writes)
  if DIGEST ~= '' then keep_answer(outcome) end
  if logs then
    more = trim() or more
    save_space()
  end
  outcome[5] = more and 1 or 0
  return outcome
end

return refusal() or commit()
