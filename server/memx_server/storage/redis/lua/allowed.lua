-- The commit script: whether memX's user may do what a run does from its first write on. Asked once a run, since a
-- right that is taken away while memX runs would otherwise stop a run between two writes. Nobody changes rights
-- while a script runs.

if not allowed and (#writes > 0 or #expired > 0) then
  local denied
  if redis.acl_check_cmd then
    local needed = 'XADD HSET SET ZADD ZREM DEL HDEL XRANGE'
    if next_arg <= #ARGV then needed = needed .. ' HGET GETRANGE GET ZSCORE' end  -- what later transactions read
    for command in needed:gmatch('%u+') do
      if not redis.acl_check_cmd(command, META) then denied = denied or command end
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
