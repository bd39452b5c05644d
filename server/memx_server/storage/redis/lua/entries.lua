-- Reads entries, where they are not too much.
--
-- KEYS: the entries. ARGV: how many bytes at the most.
--
-- Returns: how many of them fit, from the first on; where all do, their texts (nil where there is none).

local texts, size, budget = {}, 0, tonumber(ARGV[1])

for i = 1, #KEYS do
  local text = redis.call('GET', KEYS[i])
  texts[i] = text
  size = size + (text and #text or 0)
  if size > budget then return {i - 1, {}} end
end

return {#KEYS, texts}
