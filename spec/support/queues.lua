-- SPDX-License-Identifier: MIT
-- Short words for specs of queues. Builds on the public names only.
local moonloop = require "moonloop"

local M = {}

--- A Queue of that size that holds the items.
function M.of(maxsize, ...)
  local queue = moonloop.Queue(maxsize)
  for _, item in ipairs { ... } do queue:put_nowait(item) end
  return queue
end

--- What is in a queue, in the order in which it comes out, in one line.
function M.drained(queue)
  local items = {}
  while not queue:empty() do items[#items + 1] = tostring(queue:get_nowait()) end
  return table.concat(items, " ")
end

return M
