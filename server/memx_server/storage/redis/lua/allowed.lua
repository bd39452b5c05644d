-- The commit script: whether memX's user may do what a run does from its first write on. Asked once a run, since a
-- right that is taken away while memX runs would otherwise stop a run between two writes. Nobody changes rights
-- while a script runs.

if not allowed and (#writes > 0 or #expired > 0) then
  local denied
  local may = redis.acl_check_cmd
  if may then
    -- One expression, since this is asked in every run; which right it is that misses is looked for only then.
    local later = next_arg <= #ARGV  -- what later transactions read
    if not (may('XADD', META) and may('HSET', META) and may('SET', META) and may('ZADD', META)
      and may('ZREM', META) and may('DEL', META) and may('HDEL', META) and may('XRANGE', META) and (not later
      or may('HGET', META) and may('GETRANGE', META) and may('GET', META) and may('ZSCORE', META))) then
      for command in ('XADD HSET SET ZADD ZREM DEL HDEL XRANGE HGET GETRANGE GET ZSCORE'):gmatch('%u+') do
        if not denied and not may(command, META) then denied = command end
      end
    end
  else
    -- Redis 6.2 can't be asked, so each is tried on a key that never exists, or with what is there already. The first
    -- is one that a full Redis refuses: were it one that always goes through, Redis would let all others through too.
    local nowhere = META .. '?'
    for _, try in ipairs({
      {'XADD', nowhere, 'NOMKSTREAM', '1-1', 'a', 'b'}, {'SET', nowhere, '', 'XX'}, {'HSET', META, 'format', FORMAT},
      {'ZADD', nowhere, 'XX', 0, ''}, {'ZREM', nowhere, ''}, {'DEL', nowhere}, {'HDEL', nowhere, ''},
      {'XRANGE', nowhere, '-', '+'}, {'HGET', nowhere, ''}, {'GETRANGE', nowhere, 0, 0}, {'GET', nowhere},
      {'ZSCORE', nowhere, ''},
    }) do
      local reply = redis.pcall(unpack(try))
      local fault = type(reply) == 'table' and reply.err
      if fault then
        denied = fault:find('The user executing', 1, true) and try[1]
        break
      end
    end
  end
  if denied then
    do return {err = 'NOPERM this user may not run ' .. denied:lower() .. ' on the keys of the space'} end
  end
  allowed = true
end
