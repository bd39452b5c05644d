-- Follows the chain of a key's changes (write.lua). KEYS: meta, log, newest. ARGV: the key; the revision to
-- begin at, '' for its newest; the newest revision wanted; how many changes, how many steps and about
-- how many bytes at most; how many changes of a key count as kept.
--
-- Returns: the revision to go on from ('' at the end), the steps taken, whether all that ever happened
-- to the key is kept, then the changes' texts, newest first.

local META, LOG, NEWEST = KEYS[1], KEYS[2], KEYS[3]
local NAME, BEGIN, UNTIL = ARGV[1], ARGV[2], tonumber(ARGV[3])
local LIMIT, STEPS, BYTES, KEPT = unpack(ARGV, 4, 7)
LIMIT, STEPS, BYTES, KEPT = tonumber(LIMIT), tonumber(STEPS), tonumber(BYTES), tonumber(KEPT)

local held = redis.call('HMGET', META, 'floor', 'head')
local floor = tonumber(held[1] or 0)
-- What is above the head has not been committed (commit.lua).
UNTIL = math.min(UNTIL, tonumber(held[2] or 0))
local texts, steps, size = {}, 0, 0

-- Returns the key's change at a revision and the revision of the one before it.
local function change_at(revision)
  local record = redis.call('XRANGE', LOG, revision .. '-0', revision .. '-0')[1]
  local fields = record and record[2] or {}
  for i = 3, #fields, 2 do
    size = size + #fields[i + 1]
    local action, before, name = fields[i]:match('^(%a+):([^:]*):(.*)$')
    if name == NAME and action ~= 'schema' then return fields[i + 1], before end
  end
end

local newest = redis.call('HGET', NEWEST, NAME)
if not newest then return {'', 0, floor == 0 and 1 or 0} end

local revision, first, count = newest:match('^(%d+) (%S+) (%d+)$')
local complete = first ~= '?' and tonumber(first) > floor and tonumber(count) <= KEPT
if BEGIN ~= '' then revision = BEGIN end

while #texts < LIMIT and steps < STEPS and size < BYTES do
  local text, before = nil, nil
  if revision ~= '?' and tonumber(revision) > floor then text, before = change_at(revision) end
  if not text then
    revision = ''
    break
  end
  if tonumber(revision) <= UNTIL then texts[#texts + 1] = text end
  revision, steps = before, steps + 1
end

return {revision, steps, complete and 1 or 0, unpack(texts)}
