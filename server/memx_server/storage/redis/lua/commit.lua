-- The commit script: commits transactions of one space one behind the other, or returns for each why it did
-- not. The constants that commits.py names stand before it;
-- a line `--> name` stands for the file of that name (network/topology.py).
--
-- KEYS: the keys that the space shares, in the order of Keyspace.shared; then for each transaction the key of
-- its idempotency answer where it has a token, the entries it compares and the entries it writes.
-- ARGV: the id of the lineage that begins if one has to; the command that publishes; 1 where all transactions
-- only delete, so that a Redis that is out of memory has to take them; then the transactions, as
-- commit_codec.py encodes them.
-- Returns: a sum of flags (1: work is left for an empty transaction; 2: Redis refused to publish or to trim), then the
-- outcome of each transaction.
--
-- Redis does not roll back a script that fails half-way. So that nothing refuses after a first write:
--   * Every check of a transaction comes before its first write, and each key that it is going to write has
--     been read by then, so that its type is known to be right.
--   * The first write of a transaction is one that Redis refuses when it is out of memory, can't save or is a
--     replica; once that has been let through, Redis refuses none of the same script for these reasons.
--   * In a cluster's slot that is moving, a key that does not exist is 'not local', so a key that this run
--     has removed must not be touched again. Within a transaction everything that removes comes last; a later
--     transaction that needs a removed key again first asks whether the slot is moving (plan.lua).
--   * Trimming and publishing come behind the commit, and their refusal is noted, not raised.
--   * The rights of memX's user are tested when the store is opened (rights.lua), and before the first write of
--     each run (allowed.lua).
-- What commits is the HSET of META at the end: no reader is given a record above its head. If a script
-- has failed in between all the same (an older memX did, where a right was taken away), the log ends above the head.
-- XADD, always the first to write to the log, then refuses the id, and repair.lua mends the space.
--
-- Values are bytes that are only ever joined, never parsed. Revisions are text throughout, as Lua's own
-- conversion of numbers rounds them.
--
-- It has few functions and makes none for each transaction: Lua would build them anew at every run, which
-- costs as much as a command of Redis. `break` ends the transaction at hand.

local NEW_LINEAGE, PUBLISH, ONLY_DELETES = ARGV[1], ARGV[2], ARGV[3] == '1'
local HEADER_ARGS, COMPARE_ARGS, WRITE_ARGS = 8, 2, 7
local META, LOG, NAMES, EXPIRIES, NEWEST, SCHEMAS = unpack(KEYS, 1, 6)

-- The most that one run does beside what it is asked for.
local EXPIRED_AT_ONCE, TRIMMED_AT_ONCE, READ_AT_ONCE = 100, 100, 16
-- Ended lineages that a cursor may still come from.
local CUTS_KEPT = 32

local call, format = redis.call, string.format

--> space

local outcomes = {0}  -- behind the flags
local next_key, next_arg = 7, 4
while next_arg <= #ARGV do
  local WRITER, SCHEMA_REVISION, DIGEST, NOTE, KEPT_MS, RESULT_SIZE, COMPARES, WRITES =
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

--> finish

return outcomes
