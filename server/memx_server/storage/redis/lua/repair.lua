-- The repair script: removes what stands in the log above the head of the space.
--
-- A commit that failed half-way left it there (commit.lua says when that can happen). The records are removed and
-- never carried forward: the values of some may never have been written. Where any of their effects may stand
-- all the same, the history that readers know no longer leads to what the space holds, so it ends without a cut:
-- every cursor of it is diverged. Otherwise the next commit opens a lineage behind a cut at the head, since
-- the revisions of the removed records are used up, and every cursor resumes.
--
-- KEYS: the keys that the space shares, in the order of Keyspace.shared. ARGV: the id of the lineage to open
-- where effects stand.
-- Returns: how many records were removed, and whether effects of theirs stand (1 or 0).

local META, LOG, NAMES, EXPIRIES, NEWEST, SCHEMAS = unpack(KEYS)
local call = redis.call
local LAST_POSSIBLE = 2 ^ 53 - 2 ^ 50
local ENTRY = LOG:sub(1, -4) .. 'e:'  -- LOG is `<base>log`, an entry `<base>e:<key>`

local held = call('HMGET', META, 'head', 'schemas')
local head = held[1] or '0'
if call('EXISTS', LOG) == 0 then return {0, 0} end
local last = '0'
local about = call('XINFO', 'STREAM', LOG)
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then last = about[i + 1]:match('^%d+') end
end

if tonumber(last) > LAST_POSSIBLE then
  -- No revision of memX, and none could follow it: the log starts anew, and readers learn of the gap.
  call('HSET', META, 'floor', head, 'bytes', '0')
  call('DEL', LOG, NEWEST)
  return {1, 1}
end

-- First everything is read, so that nothing refuses after the first write.
local records = call('XRANGE', LOG, '(' .. head .. '-0', '+')
local ids, stands, schema_changed = {}, false, false
local seen, present, due, newest_before = {}, {}, {}, {}
for i = #records, 1, -1 do
  local id, fields = unpack(records[i])
  local revision = id:match('^%d+')
  ids[#ids + 1] = id
  for j = #fields - 1, 3, -2 do
    local action, before, name = fields[j]:match('^(%a+):([^:]*):(.*)$')
    if action == 'schema' then
      schema_changed, stands = true, true
    elseif name then
      -- The chain of the key's changes goes back to the one before. Records come newest first, so the
      -- value that was worked out last time, if any, is the one to go on from.
      local newest = newest_before[name] or call('HGET', NEWEST, name)
      if newest and newest:match('^%d+') == revision then
        local first, count = newest:match('^%d+ (%S+) (%d+)$')
        newest_before[name] = before == '?' and '' or before .. ' ' .. first .. ' '
          .. string.format('%.0f', tonumber(count) - 1)
      end
      if not seen[name] then
        seen[name] = true
        local entry = call('GET', ENTRY .. name)
        local written = entry and tonumber(entry:match('^{"revision":(%d+)'))
        if written and written > tonumber(head) then stands = true end
        if entry then
          -- A quote inside the writer is escaped, so the first match is the member itself.
          local _, behind = entry:find(',"expires_at":', 1, true)
          present[name] = behind and entry:match('^[%d.]+', behind + 1) or 'never'
        elseif action == 'expire' and call('ZSCORE', EXPIRIES, name) then
          due[name] = true  -- the next commit logs it
        elseif action ~= 'set' or call('ZSCORE', EXPIRIES, name) then
          -- Deleted, or struck from the index, or written with a time to live that has passed since.
          stands = true
        end
      end
    end
  end
end

-- The indexes, then the state, then the log: whatever of this fails, the next repair does again.
for name in pairs(seen) do
  local expires = present[name]
  if due[name] then
    call('ZADD', NAMES, 0, name)
  elseif not expires then
    call('ZREM', NAMES, name)
    call('ZREM', EXPIRIES, name)
  else
    call('ZADD', NAMES, 0, name)
    if expires == 'never' then
      call('ZREM', EXPIRIES, name)
    else
      call('ZADD', EXPIRIES, string.format('%.0f', tonumber(expires) * 1000), name)
    end
  end
  if newest_before[name] == '' then
    call('HDEL', NEWEST, name)
  elseif newest_before[name] then
    call('HSET', NEWEST, name, newest_before[name])
  end
end
-- No replication id: the next commit opens a lineage, above every revision that was ever given.
call('HSET', META, 'head', head, 'replid', '', 'beyond', last)
if schema_changed then call('HSET', META, 'schemas', last) end
if stands then call('HSET', META, 'lineage', ARGV[1], 'cuts', '') end
for _, id in ipairs(ids) do call('XDEL', LOG, id) end
return {#ids, stands and 1 or 0}
