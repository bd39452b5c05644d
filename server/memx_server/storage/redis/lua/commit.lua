-- The commit script: it commits transactions, those of a space one behind the other, or says of each what
-- stood in its way. The constants MAX_RECORDS, MAX_BYTES, MAX_KEYS, NOTICE_MAX and ANSWER_MS stand
-- before it (commits.py); a line `--> name` stands for the file of that name (scripts.py).
--
-- Redis does not roll back a script that fails half-way, so every check of a transaction comes before its
-- first write, and the first write (XADD) is one that Redis refuses when it is out of memory or is a
-- replica; once one has been let through, Redis refuses none of the same script. Values are bytes that
-- are only ever joined, never parsed. Revisions are text throughout, as Lua's own conversion of numbers
-- rounds them.
--
-- It has few functions and makes none for each transaction: Lua would build them anew at every run, which
-- costs as much as a command of Redis. `break` ends the transaction at hand.

local NEW_LINEAGE, PUBLISH = unpack(ARGV, 1, 2)
local SPACE_KEYS, SPACE_ARGS, HEADER_ARGS, COMPARE_ARGS, WRITE_ARGS = 6, 2, 6, 2, 7

-- The most that is done for others with each space.
local EXPIRED_AT_ONCE, TRIMMED_AT_ONCE, READ_AT_ONCE = 100, 100, 16
-- Ended lineages that a cursor may still come from.
local CUTS_KEPT = 32

local call, format = redis.call, string.format

--> space

-- Commits the transactions of the space whose keys and arguments lie between these.
local function commit_all(next_key, next_arg, last_arg)
  local SPACE_NUMBER = next_key
--> load
  local outcomes = {}
  while next_arg <= last_arg do
    local WRITER, SCHEMA_REVISION, DIGEST, NOTE, COMPARES, WRITES =
      unpack(ARGV, next_arg, next_arg + HEADER_ARGS - 1)
    local ANSWER = DIGEST ~= '' and KEYS[next_key]
    local FIRST_ENTRY = next_key + (ANSWER and 1 or 0)
    local FIRST_COMPARE = next_arg + HEADER_ARGS
    local FIRST_WRITE = FIRST_COMPARE + COMPARES * COMPARE_ARGS
    next_key, next_arg = FIRST_ENTRY + COMPARES + WRITES, FIRST_WRITE + WRITES * WRITE_ARGS

    local outcome
    repeat
--> checks

--> plan

--> write
    until true
    outcomes[#outcomes + 1] = outcome
  end

--> trim

  return {more and 1 or 0, outcomes}
end

local replies, key, arg = {}, 1, 3
while arg <= #ARGV do
  local keys, args = unpack(ARGV, arg, arg + 1)
  local done, reply = pcall(commit_all, key, arg + SPACE_ARGS, arg + SPACE_ARGS + args - 1)
  if not done then
    -- What is wrong with one space fails that one. What Redis as a whole cannot do now, it can't from the
    -- first write on, so that nothing has been written then. (Redis 6.2 says where in front of what.)
    local fault = reply:gsub('^@user_script: %d+: %-', '')
    local word = fault:match('^([A-Z]+) ')
    reply = {err = fault}
    if word and word ~= 'ERR' and word ~= 'WRONGTYPE' then return reply end
  end
  replies[#replies + 1] = reply
  key, arg = key + keys, arg + SPACE_ARGS + args
end
return replies
