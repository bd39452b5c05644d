-- What becomes of each write: planned first, so that all of it is known before anything is written.

-- Returns the revision and the version of an entry, nil where there is none.
--
-- An entry that Redis still shows is alive, whatever TIME says by now: Redis holds expiry still while
-- a script runs.
local function standing(entry)
  local start = call('GETRANGE', entry, 0, 63)
  if start ~= '' then
    local revision, version = start:match('^{"revision":(%d+),"version":(%d+)')
    return revision, tonumber(version)
  end
end

local function read_writes()
  local writes, entry = {}, FIRST_ENTRY + COMPARES
  for at = FIRST_WRITE, #ARGV, WRITE_ARGS do
    local kind, name, quoted, reason, ttl, logged, value = unpack(ARGV, at, at + WRITE_ARGS - 1)
    local write = {
      kind = kind, name = name, quoted = quoted, reason = reason, ttl = ttl, logged = logged == '1',
      value = value, entry = KEYS[entry], version_before = false, changed = false, version = 0,
      expires = false, text = false,
    }
    if kind == 'put_schema' or kind == 'delete_schema' then
      write.entry = false
    else
      local _, version = standing(write.entry)
      write.version_before = version
    end
    writes[#writes + 1] = write
    entry = entry + 1
  end
  return writes
end

local function seconds(ms)
  return format('%.3f', ms / 1000)
end

-- Returns when an entry will expire, in milliseconds; nil or false for never.
local function expiry(write)
  if write.ttl == 'keep' then
    return write.version_before and tonumber(call('ZSCORE', EXPIRIES, write.name) or nil)
  elseif write.ttl ~= '' then
    return NOW_MS + tonumber(write.ttl)
  end
end

local function removal(action, name, quoted, revision, writer, reason)
  return {
    action = action, name = name,
    text = '{"event":"value","action":"' .. action .. '","key":' .. quoted .. ',"revision":' .. revision
      .. ',"version":0,"ts":' .. TS .. ',"writer":' .. writer .. reason .. ',"value":null}',
  }
end

-- Each plan fills in the write (changed, version, expires, text) and returns its change, if there is
-- one. `revision` is text.

local function plan_put(write, revision)
  write.changed, write.version = true, (write.version_before or 0) + 1
  write.expires = expiry(write)
  local stamp = '"revision":' .. revision .. ',"version":' .. whole(write.version)
    .. ',"ts":' .. TS .. ',"writer":' .. WRITER
  local expires, expires_member = 'null', ''
  if write.expires then
    expires = seconds(write.expires)
    expires_member = ',"expires_at":' .. expires
  end
  write.text = '{' .. stamp .. ',"expires_at":' .. expires .. ',"key":' .. write.quoted
    .. ',"value":' .. write.value .. '}'
  return {
    action = 'set', name = write.name,
    text = '{"event":"value","action":"set","key":' .. write.quoted .. ',' .. stamp .. expires_member
      .. write.reason .. (write.logged and ',"value":' or '') .. (write.logged and write.value or '')
      .. '}',
  }
end

local function plan_touch(write)
  if not write.version_before then return end
  write.changed, write.version, write.expires = true, write.version_before, expiry(write)
  -- A quote inside the writer is escaped, so the first match is the member itself.
  local text = call('GET', write.entry)
  local _, before = text:find(',"expires_at":', 1, true)
  local after = text:find(',"key":', before, true)
  write.text = text:sub(1, before) .. (write.expires and seconds(write.expires) or 'null')
    .. text:sub(after)
end

local function plan_schema(write, revision)
  if write.kind == 'delete_schema' and call('HEXISTS', SCHEMAS, write.name) == 0 then return end
  write.changed = true
  return {
    action = 'schema', name = write.name,
    text = '{"event":"schema","action":"schema","key":' .. write.quoted .. ',"revision":' .. revision
      .. ',"ts":' .. TS .. ',"writer":' .. WRITER .. write.reason .. ',"schema":' .. write.value .. '}',
  }
end

local function plan(write, revision)
  if write.kind == 'put' then
    return plan_put(write, revision)
  elseif write.kind == 'touch' then
    return plan_touch(write)
  elseif write.kind ~= 'delete' then
    return plan_schema(write, revision)
  elseif write.version_before then
    write.changed = true
    return removal('delete', write.name, write.quoted, revision, WRITER, write.reason)
  end
end

local function apply(write)
  local kind, name = write.kind, write.name
  if kind == 'put' or kind == 'touch' then
    if write.expires then
      local expires = whole(write.expires)
      call('SET', write.entry, write.text, 'PXAT', expires)
      call('ZADD', EXPIRIES, expires, name)
    else
      call('SET', write.entry, write.text)
      call('ZREM', EXPIRIES, name)
    end
    if not write.version_before then call('ZADD', NAMES, 0, name) end
  elseif kind == 'delete' then
    call('DEL', write.entry)
    call('ZREM', EXPIRIES, name)
    call('ZREM', NAMES, name)
  else
    if kind == 'put_schema' then
      call('HSET', SCHEMAS, name, write.value)
    else
      call('HDEL', SCHEMAS, name)
    end
    space.schemas, space.moved = space.head, true
  end
end
