-- What becomes of each write: planned first, so that all of it is known before anything is written.

local standings = {}

-- Returns what an entry stands at, nil where there is none.
--
-- An entry that Redis still shows is alive, whatever TIME says by now: Redis holds expiry still while
-- a script runs.
local function standing(entry)
  local known = standings[entry]
  if known == nil then
    local start = call('GETRANGE', entry, 0, 63)
    local revision, version = start:match('^{"revision":(%d+),"version":(%d+)')
    known = revision and {revision = tonumber(revision), version = tonumber(version)} or false
    standings[entry] = known
  end
  return known or nil
end

local function read_writes()
  local writes, entry = {}, FIRST_ENTRY + COMPARES
  for at = FIRST_COMPARE + COMPARES * COMPARE_ARGS, #ARGV, WRITE_ARGS do
    local kind, name, quoted, reason, ttl, logged, value = unpack(ARGV, at, at + WRITE_ARGS - 1)
    writes[#writes + 1] = {
      kind = kind, name = name, quoted = quoted, reason = reason, ttl = ttl,
      logged = logged == '1', value = value, changed = false, version = 0,
      entry = kind ~= 'put_schema' and kind ~= 'delete_schema' and KEYS[entry] or nil,
    }
    entry = entry + 1
  end
  return writes
end

local function seconds(ms)
  return string.format('%.3f', ms / 1000)
end

-- Returns when the entry will expire, in milliseconds; nil for never.
local function expiry(write, found)
  if write.ttl == 'keep' then
    return found and tonumber(call('ZSCORE', EXPIRIES, write.name) or nil)
  elseif write.ttl ~= '' then
    return NOW_MS + tonumber(write.ttl)
  end
end

local function stamp(revision, version, writer)
  return '"revision":' .. revision .. ',"version":' .. whole(version)
    .. ',"ts":' .. TS .. ',"writer":' .. writer
end

local function value_change(action, name, quoted, rest)
  return {
    action = action, name = name, quoted = quoted,
    data = '{"event":"value","action":"' .. action .. '","key":' .. quoted .. ',' .. rest .. '}',
  }
end

local function removal(action, name, quoted, revision, writer, reason)
  return value_change(action, name, quoted, stamp(revision, 0, writer) .. reason .. ',"value":null')
end

-- A name has no control characters, so these two are all that JSON escapes in it.
local function expire_change(name, revision)
  local quoted = '"' .. name:gsub('["\\]', '\\%0') .. '"'
  return removal('expire', name, quoted, revision, '""', '')
end

local plan = {}

function plan.put(write, revision)
  local found = standing(write.entry)
  write.changed, write.created = true, not found
  write.version = (found and found.version or 0) + 1
  write.expires = expiry(write, found)
  local stamped = stamp(revision, write.version, WRITER)
  local expires = write.expires and seconds(write.expires)
  write.text = '{' .. stamped .. ',"expires_at":' .. (expires or 'null')
    .. ',"key":' .. write.quoted .. ',"value":' .. write.value .. '}'
  return value_change('set', write.name, write.quoted,
    stamped .. (expires and ',"expires_at":' .. expires or '') .. write.reason
    .. (write.logged and ',"value":' .. write.value or ''))
end

function plan.delete(write, revision)
  write.changed = standing(write.entry) ~= nil
  if write.changed then
    return removal('delete', write.name, write.quoted, revision, WRITER, write.reason)
  end
end

function plan.touch(write)
  local found = standing(write.entry)
  if not found then return end
  write.changed, write.version = true, found.version
  write.expires = expiry(write, found)
  -- A quote inside the writer is escaped, so the first match is the member itself.
  local text = call('GET', write.entry)
  local _, before = text:find(',"expires_at":', 1, true)
  local after = text:find(',"key":', before, true)
  write.text = text:sub(1, before) .. (write.expires and seconds(write.expires) or 'null')
    .. text:sub(after)
end

function plan.put_schema(write, revision)
  write.changed = true
  return {
    action = 'schema', name = write.name, quoted = write.quoted,
    data = '{"event":"schema","action":"schema","key":' .. write.quoted .. ',"revision":' .. revision
      .. ',"ts":' .. TS .. ',"writer":' .. WRITER .. write.reason .. ',"schema":' .. write.value .. '}',
  }
end

function plan.delete_schema(write, revision)
  if call('HEXISTS', SCHEMAS, write.name) == 1 then
    return plan.put_schema(write, revision)
  end
end

local apply = {}

function apply.put(write)
  if write.expires then
    local expires = whole(write.expires)
    call('SET', write.entry, write.text, 'PXAT', expires)
    call('ZADD', EXPIRIES, expires, write.name)
  else
    call('SET', write.entry, write.text)
    call('ZREM', EXPIRIES, write.name)
  end
  if write.created then call('ZADD', NAMES, 0, write.name) end
end

apply.touch = apply.put

function apply.delete(write)
  call('DEL', write.entry)
  call('ZREM', EXPIRIES, write.name)
  call('ZREM', NAMES, write.name)
end

function apply.put_schema(write)
  call('HSET', SCHEMAS, write.name, write.value)
  space.schemas = space.head
end

function apply.delete_schema(write)
  call('HDEL', SCHEMAS, write.name)
  space.schemas = space.head
end
