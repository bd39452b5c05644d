-- The commit script: what is to be written, worked out before anything is.

-- The writes, and of their keys those that have expired without a record of it: an entry that Redis does
-- not have is gone, even if this clock (a new primary's, perhaps) is behind the one that ended it.
local writes, at_hand, expired, added, listed, schema_added = {}, {}, {}, 0, false, 0
-- Those of them that were unlogged, by name, and how many; whether an unlogged key is at hand, and whether one changes.
local faded, faded_count, any_unlogged, quiet = nil, 0, false, false
-- Whether a key is written again that this run has removed.
local touches_gone = false
for at = FIRST_WRITE, next_arg - 1, WRITE_ARGS do
  local kind, name, quoted, reason, ttl, in_log, value = unpack(ARGV, at, at + WRITE_ARGS - 1)
  local write = {
    kind = kind, name = name, quoted = quoted, reason = reason, value = value,
    in_log = in_log == '1' or in_log == '1+', unlogged = false, entry = KEYS[FIRST_ENTRY + COMPARES + #writes],
    version_before = false, version = 0, expires = false, text = false, changed = false,
    known = false,
  }
  if kind ~= 'put_schema' and kind ~= 'delete_schema' then
    local version, unlogged = compared_version, compared_unlogged
    if write.entry ~= compared then
      local found, _, mark = standing(write.entry)
      version, unlogged = found, mark
    end
    unlogged = version and unlogged
    -- The write that makes a key settles whether it is logged; another one may only say the same.
    if in_log ~= '1' and in_log ~= '' then
      if version and unlogged ~= (in_log == 'n') then
        outcome = {'logged', #writes, unlogged and 0 or 1}
        break
      end
      unlogged = in_log == 'n'
    end
    if unlogged then write.unlogged, any_unlogged = true, true end
    write.version_before = tonumber(version or nil)
    at_hand[name] = true
    if kind == 'put' and not version then added, listed = added + 1, true end
    if kind == 'delete' and version then added, listed = added - 1, true end
    if kind == 'put' and gone and gone[write.entry] then touches_gone = true end
    local expired_at = expiring > 0 and not version and call('ZSCORE', EXPIRIES, name)
    if expired_at then
      expired[#expired + 1] = name
      if expired_at % 1 ~= 0 then
        faded, faded_count = faded or {}, faded_count + 1
        faded[name] = true
      end
    end
  else
    local before = schemas_gone and 0 or call('HSTRLEN', SCHEMAS, name)
    write.known = before > 0
    touches_gone = touches_gone or schemas_gone and kind == 'put_schema'
    if before > 0 then schema_added = schema_added - SCHEMA_OVERHEAD - #name - before end
    if kind == 'put_schema' then schema_added = schema_added + SCHEMA_OVERHEAD + #name + #value end
  end
  if ttl == 'keep' then
    local expires = expiring > 0 and write.version_before and call('ZSCORE', EXPIRIES, name)
    write.expires = expires and math.floor(expires)
  elseif ttl ~= '' then
    write.expires = now_ms + tonumber(ttl)
    touches_gone = touches_gone or expiries_gone
  end
  writes[#writes + 1] = write
end
if outcome then break end

-- Asked of a key that never exists: in a slot that is moving, Redis refuses to look for it here.
if (touches_gone or records == 0 or head == '0') and (#writes > 0 or expiring > 0)
  and type(redis.pcall('EXISTS', META .. '?')) == 'table' then
  outcome = {'moving'}
  break
end

-- The cap on the keys of a space (and, where the index of keys is written, a look at its type). Names of entries that have expired may still be listed, so what the
-- cheap count refuses is counted exactly: at hand it is Redis that says what lives, elsewhere the clock.
if listed then
  local kept = call('ZCARD', NAMES) + added
  if MAX_KEYS > 0 and added > 0 and kept > MAX_KEYS and expiring > 0 then
    kept = kept - call('ZCOUNT', EXPIRIES, '-inf', format('%.0f', now_ms - 1))
    for _, write in ipairs(writes) do
      local expires = at_hand[write.name] and tonumber(call('ZSCORE', EXPIRIES, write.name) or nil)
      if expires and expires < now_ms and write.version_before then kept = kept + 1 end
      if expires and expires >= now_ms and not write.version_before then kept = kept - 1 end
    end
  end
  if MAX_KEYS > 0 and added > 0 and kept > MAX_KEYS then outcome = {'full', 'keys'} end
end

-- The cap on the bytes of schemas. The sum that META holds may be wrong, where a server of another version
-- has written schemas; so what it refuses is counted exactly.
if MAX_SCHEMA_BYTES > 0 and schema_added > 0 then
  if not schema_bytes or schema_bytes + schema_added > MAX_SCHEMA_BYTES then
    schema_bytes = 0
    for _, name in ipairs(schemas_gone and {} or call('HKEYS', SCHEMAS)) do
      schema_bytes = schema_bytes + SCHEMA_OVERHEAD + #name + call('HSTRLEN', SCHEMAS, name)
    end
  end
  if schema_bytes + schema_added > MAX_SCHEMA_BYTES then outcome = {'full', 'schema_bytes'} end
end
if outcome then break end

-- Other entries that have expired. Those at hand that Redis still shows are alive in this transaction.
local due = expiring > 0 and not swept and call('ZRANGEBYSCORE', EXPIRIES, '-inf',
  format('%.0f', now_ms - 1), 'WITHSCORES', 'LIMIT', 0, EXPIRED_AT_ONCE) or {}
swept, more = true, more or #due == 2 * EXPIRED_AT_ONCE
if #due > 0 then
  for i = 0, COMPARES - 1 do
    if standing(KEYS[FIRST_ENTRY + i]) then at_hand[ARGV[FIRST_COMPARE + i * COMPARE_ARGS]] = true end
  end
  for i = 1, #due, 2 do
    local name = due[i]
    if not at_hand[name] then
      expired[#expired + 1] = name
      if due[i + 1] % 1 ~= 0 then
        faded, faded_count = faded or {}, faded_count + 1
        faded[name] = true
      end
    end
  end
end

--> allowed

-- The revision. A replication id stands for an unbroken history: a restart and a promotion, which may
-- both have lost writes, give the server another one, and that opens a new lineage.
local counted_from = tonumber(last)
if #writes > 0 or #expired > 0 then
  if not server_replid then
    local info = call('INFO', 'replication')
    local _, before = info:find('master_replid:', 1, true)
    server_replid = before and info:sub(before + 1, before + 40) or ''
  end
  if server_replid ~= replid or any_unlogged or last ~= head then
    -- A new lineage counts from the clock, and unlogged keys leave the log behind: XADD would not notice one that
    -- ends above the head.
    if head ~= '0' and #call('XREVRANGE', LOG, '+', '(' .. head .. '-0', 'COUNT', 1) > 0 then
      do return {err = 'ERR LOGABOVE the log of the space ends above its head'} end
    end
  end
  if server_replid ~= replid then
    counted_from = math.max(counted_from, now - 1, tonumber(call('HGET', META, 'beyond') or 0))
  end
end
local expiry_revision = #expired > faded_count and format('%.0f', counted_from + 1)
local revision = format('%.0f', counted_from + (expiry_revision and 2 or 1))

local changes = {}
for _, write in ipairs(writes) do
  local kind, action, change = write.kind, nil, nil
  local expires = write.expires and format('%.3f', write.expires / 1000)

  if kind == 'put' then
    write.version = (write.version_before or 0) + 1
    local stamp = '"revision":' .. revision .. ',"version":' .. format('%.0f', write.version)
      .. (write.unlogged and ',"logged":false' or '') .. ',"ts":' .. ts .. ',"writer":' .. WRITER
    write.text = '{' .. stamp .. ',"expires_at":' .. (expires or 'null') .. ',"key":' .. write.quoted
      .. ',"value":' .. write.value .. '}'
    quiet = quiet or write.unlogged
    action, change = 'set', not write.unlogged and '{"event":"value","action":"set","key":' .. write.quoted .. ',' .. stamp
      .. (expires and ',"expires_at":' .. expires or '') .. write.reason
      .. (write.in_log and ',"value":' or '') .. (write.in_log and write.value or '') .. '}'

  elseif kind == 'delete' and write.version_before then
    quiet, write.changed = quiet or write.unlogged, true
    action, change = 'delete',
      not write.unlogged and removal('delete', write.quoted, revision, WRITER, write.reason)

  elseif kind == 'touch' and write.version_before then
    write.version = write.version_before
    -- A quote inside the writer is escaped, so the first match is the member itself.
    local text = call('GET', write.entry)
    local _, before = text:find(',"expires_at":', 1, true)
    local after = text:find(',"key":', before, true)
    write.text = text:sub(1, before) .. (expires or 'null') .. text:sub(after)

  elseif kind == 'put_schema'
    or kind == 'delete_schema' and write.known then
    action, change = 'schema', '{"event":"schema","action":"schema","key":' .. write.quoted
      .. ',"revision":' .. revision .. ',"ts":' .. ts .. ',"writer":' .. WRITER .. write.reason
      .. ',"schema":' .. write.value .. '}'
  end

  write.changed = write.changed or (change or write.text) and true or false
  if change then changes[#changes + 1] = {action = action, name = write.name, text = change} end
end
