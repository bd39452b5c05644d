-- Tests the rights of memX's user, command by command, on keys that nothing else uses.
--
-- KEYS: a string, a hash, a stream, a sorted set. ARGV: the command that publishes, and a channel.
-- Returns: what is denied: commands by name, `~` for the keys, `&` for the channel.

local TEXT, HASH, LOG, INDEX = unpack(KEYS)
local PUBLISH, CHANNEL = unpack(ARGV)
local denied, known = {}, {}

local function note(what)
  if not known[what] then
    known[what] = true
    denied[#denied + 1] = what
  end
end

-- Redis 6.2 and 7.0 say "can't run", "can't access ... keys" and "can't publish"; later ones speak of
-- an ACL failure, by the words that they use outside of scripts.
local function try(...)
  local reply = redis.pcall(...)
  local fault = type(reply) == 'table' and reply.err
  if not fault or not (fault:find('The user executing', 1, true) or fault:find('NOPERM', 1, true)
    or fault:find('ACL failure', 1, true)) then return end
  if fault:find('channel', 1, true) then
    note('&')
  elseif fault:find(' key', 1, true) then
    note('~')
  else
    note((...):lower())
  end
end

try('TIME')
try('INFO', 'replication')
try('XADD', LOG, '1-0', 'a', 'b')
try('HSET', HASH, 'a', 'b')
try('SET', TEXT, '1', 'PX', 10000)
try('PEXPIRE', TEXT, 10000)
try('INCRBY', TEXT, 1)
try('ZADD', INDEX, 0, 'a')
try('EXISTS', TEXT)
try('GET', TEXT)
try('MGET', TEXT)
try('GETRANGE', TEXT, 0, 0)
try('PTTL', TEXT)
try('HGET', HASH, 'a')
try('HMGET', HASH, 'a')
try('HGETALL', HASH)
try('HSTRLEN', HASH, 'a')
try('HKEYS', HASH)
try('HINCRBY', HASH, 'n', 1)
try('HLEN', HASH)
try('XLEN', LOG)
try('XRANGE', LOG, '-', '+', 'COUNT', 1)
try('XREVRANGE', LOG, '+', '-', 'COUNT', 1)
try('XINFO', 'STREAM', LOG)
try('ZCARD', INDEX)
try('ZSCORE', INDEX, 'a')
try('ZCOUNT', INDEX, 0, 0)
try('ZRANGE', INDEX, 0, 0)
try('ZRANGEBYSCORE', INDEX, 0, 0)
try('ZRANGEBYLEX', INDEX, '-', '+')
try('ZREMRANGEBYSCORE', INDEX, 1, 1)
try('XTRIM', LOG, 'MINID', '=', '1-0')
try('XDEL', LOG, '9-0')
try('HDEL', HASH, 'b')
try('ZREM', INDEX, 'b')
try('DEL', TEXT, HASH, LOG, INDEX)
try(PUBLISH, CHANNEL, '')
return denied
