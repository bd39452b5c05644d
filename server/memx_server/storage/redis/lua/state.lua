-- Changes one record of the state, or takes tokens out of a bucket.
--
-- KEYS: the record, the index of its group. ARGV: the action, the record's name, its time to live in
-- milliseconds, its value, the most records of the group (0 for any number), the value that it must hold
-- before. For take_tokens: the interval in microseconds, the number of tokens, 0, the burst.
--
-- Returns: put: 0, or -1 where the group is full. compare_and_put: 1, 0 where the record holds something
-- else, -1 where the group is full. take: the value. take_tokens: the tokens, the wait in microseconds.

local RECORD, INDEX = KEYS[1], KEYS[2]
local ACTION, NAME, TTL_MS, VALUE, MOST, EXPECTED = unpack(ARGV)
local call = redis.call

local function now_us()
  local clock = call('TIME')
  return clock[1] * 1000000 + clock[2]
end

local function text(number)
  return string.format('%.0f', number)  -- else Lua writes 1.7e+15
end

-- Sets the record, unless it would be a new one in a full group.
local function put()
  local now = math.floor(now_us() / 1000)
  call('ZREMRANGEBYSCORE', INDEX, '-inf', text(now - 1))
  if MOST ~= '0' and not call('ZSCORE', INDEX, NAME) and call('ZCARD', INDEX) >= tonumber(MOST) then
    return -1
  end
  call('SET', RECORD, VALUE, 'PX', TTL_MS)
  call('ZADD', INDEX, text(now + TTL_MS), NAME)
  -- The index outlives every record in it, and no more.
  if call('PTTL', INDEX) < tonumber(TTL_MS) then call('PEXPIRE', INDEX, TTL_MS) end
  return 1
end

local function remove()
  call('ZREM', INDEX, NAME)
  return call('DEL', RECORD)
end

-- The generic cell rate algorithm (ITU-T I.371): of a bucket only the moment is kept at which it will be
-- full again. Each token that is taken moves that moment by an interval; it never lies further ahead than
-- a whole burst, and a bucket that is full is no key at all.
local function take_tokens()
  local interval, count, burst = tonumber(TTL_MS), tonumber(VALUE), tonumber(EXPECTED)
  local now = now_us()
  local full_at = math.max(now, tonumber(call('GET', RECORD) or 0))
  full_at = math.min(full_at, now + burst * interval)  -- the clock may have been set back
  local left = math.floor((now + burst * interval - full_at) / interval)
  local taken = math.min(count, left)
  if taken > 0 then
    full_at = full_at + taken * interval
    call('SET', RECORD, text(full_at), 'PX', text(math.ceil((full_at - now) / 1000)))
  end
  if taken == count then return {taken, 0} end
  return {taken, full_at + interval - (now + burst * interval)}
end

if ACTION == 'put' then
  return put()
elseif ACTION == 'compare_and_put' then
  if call('GET', RECORD) ~= (EXPECTED or false) then return 0 end
  return put()
elseif ACTION == 'take_tokens' then
  return take_tokens()
elseif ACTION == 'take' then
  local value = call('GET', RECORD)
  remove()
  return value
elseif ACTION == 'remove' then
  remove()
end
