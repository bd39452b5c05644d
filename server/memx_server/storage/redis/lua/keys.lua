-- Reads the entries of a page of keys, as many as fit, or how each begins.
--
-- KEYS: the index of keys, then the entries. ARGV: the page's bounds in the index, how many names at the
-- most, about how many bytes at the most, how many bytes of each entry ('' for the whole of it).
--
-- Returns: the names that the index holds at this moment; the entries' texts (nil where there is none),
-- at least one.

local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local texts, size, budget = {}, 0, tonumber(ARGV[4])
local last = ARGV[5] ~= '' and ARGV[5] - 1

for i = 2, #KEYS do
  local text
  if last then
    text = redis.call('GETRANGE', KEYS[i], 0, last)
    if text == '' then text = false end  -- an entry is never empty: there is none
  else
    text = redis.call('GET', KEYS[i])
  end
  texts[i - 1] = text
  size = size + (text and #text or 0)
  if size > budget then break end
end

return {names, texts}
