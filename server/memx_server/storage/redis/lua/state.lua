-- Changes one record of the state. KEYS: the record, the index of its group. ARGV: what to do, the
-- record's name, its time to live in milliseconds, its value, what it must hold before.

local RECORD, INDEX = KEYS[1], KEYS[2]
local ACTION, NAME, TTL_MS, VALUE, EXPECTED = unpack(ARGV)
local call = redis.call

local function index()
  local clock = call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  call('ZREMRANGEBYSCORE', INDEX, '-inf', string.format('%.0f', now - 1))
  call('ZADD', INDEX, string.format('%.0f', now + TTL_MS), NAME)
  -- The index outlives every record in it, and no more.
  if call('PTTL', INDEX) < tonumber(TTL_MS) then call('PEXPIRE', INDEX, TTL_MS) end
end

local function put()
  call('SET', RECORD, VALUE, 'PX', TTL_MS)
  index()
end

local function remove()
  call('ZREM', INDEX, NAME)
  return call('DEL', RECORD)
end

if ACTION == 'put' then
  put()
elseif ACTION == 'compare_and_put' then
  if call('GET', RECORD) ~= (EXPECTED or false) then return 0 end
  put()
  return 1
elseif ACTION == 'increment' then
  if call('EXISTS', RECORD) == 1 then return call('INCRBY', RECORD, VALUE) end
  put()
  return tonumber(VALUE)
elseif ACTION == 'take' then
  local value = call('GET', RECORD)
  remove()
  return value
elseif ACTION == 'remove' then
  remove()
end
