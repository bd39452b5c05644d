-- Commits one transaction of a space, or says what stood in its way.

-- The checks: idempotency, schema revision, compares.
local function refusal()
  local answer = DIGEST ~= '' and call('GET', ANSWER)
  if answer then
    local digest, rest = answer:match('^([^\n]*)\n(.*)$')
    return digest == DIGEST and {'repeated', rest} or {'mismatch'}
  end
  if SCHEMA_REVISION ~= '' and SCHEMA_REVISION ~= space.schemas then
    return {'schemas', tonumber(space.schemas)}
  end
  for i = 0, COMPARES - 1 do
    local entry = KEYS[FIRST_ENTRY + i]
    local revision = standing(entry)
    if (revision or '0') ~= ARGV[FIRST_COMPARE + i * COMPARE_ARGS + 1] then
      return {'conflict', i, revision and call('GET', entry)}
    end
  end
end

-- Returns the names of entries that have expired without a record of it, and whether there are more.
--
-- Of the keys at hand, those that Redis shows are alive, and those it does not have are gone, even if
-- this clock (a new primary's, perhaps) is behind the one that ended them.
local function expired_names(writes)
  local expired, at_hand = {}, {}
  for _, write in ipairs(writes) do
    if write.entry then
      at_hand[write.name] = true
      if not write.version_before and call('ZSCORE', EXPIRIES, write.name) then
        expired[#expired + 1] = write.name
      end
    end
  end
  local due = call('ZRANGEBYSCORE', EXPIRIES, '-inf', whole(NOW_MS - 1), 'LIMIT', 0, EXPIRED_AT_ONCE)
  if #due > 0 then
    for i = 0, COMPARES - 1 do
      if standing(KEYS[FIRST_ENTRY + i]) then
        at_hand[ARGV[FIRST_COMPARE + i * COMPARE_ARGS]] = true
      end
    end
    for _, name in ipairs(due) do
      if not at_hand[name] then expired[#expired + 1] = name end
    end
  end
  return expired, #due == EXPIRED_AT_ONCE
end

-- Logs expiries as one record of their own.
local function log_expired(names, revision)
  local changes = {}
  for i, name in ipairs(names) do
    -- A name holds no control characters, so these two are all that JSON escapes in it.
    local quoted = '"' .. name:gsub('["\\]', '\\%0') .. '"'
    changes[i] = removal('expire', name, quoted, revision, '""', '')
  end
  append(changes, revision)
  call('ZREM', EXPIRIES, unpack(names))
  call('ZREM', NAMES, unpack(names))
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
  -- An empty transaction with nothing to log must not open a lineage: one begins with a record.
  local base = (#expired > 0 or #writes > 0) and continue_lineage() or 0
  local revision = whole(base + (#expired > 0 and 2 or 1))
  local changes = {}
  for _, write in ipairs(writes) do
    changes[#changes + 1] = plan(write, revision)
  end

  local logs = #expired > 0 or #changes > 0
  if logs then
    lineage = space.lineage
    mend_log()
    if #expired > 0 then log_expired(expired, whole(base + 1)) end
    if #changes > 0 then append(changes, revision) end
  end
  local outcome = {'committed', lineage, tonumber(space.head), NOW, 0}
  for _, write in ipairs(writes) do
    if write.changed then apply(write) end
    local at = #outcome
    outcome[at + 1], outcome[at + 2] = write.changed and 1 or 0, write.version
    outcome[at + 3] = write.expires or -1
  end
  if DIGEST ~= '' then keep_answer(outcome) end
  if logs or #writes == 0 then
    more = trim() or more
    if logs or space.moved then save_space() end
  end
  outcome[5] = more and 1 or 0
  return outcome
end

return refusal() or commit()
