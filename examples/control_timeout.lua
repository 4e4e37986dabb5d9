-- SPDX-License-Identifier: MIT
-- What: `local limit <close> = moonloop.timeout(seconds)` limits the time of a block.
-- Why: whatever the block waits for is cancelled when time is up, and the block leaves with a
--      TimeoutError. It runs in the same task, so nothing can be lost between two. A deadline may
--      be moved while the block runs.
-- Usage: moonloop examples/control_timeout.lua
local moonloop = require "moonloop"

local function fetch(pages)
  local limit <close> = moonloop.timeout(0.1)
  for page = 1, pages do
    moonloop.sleep(page < 3 and 0.01 or 10) -- the third page is slow to come
    print("  page " .. page)
  end
  print("in time: " .. tostring(not limit:expired()))
end

fetch(1)
local ok, e = pcall(fetch, 3)
print(ok, e.kind)
print((e.message:gsub("[^ ]*/", "")))

-- Every page is given its own time: the deadline moves as long as something comes.
local function fetch_patiently(pages)
  local limit <close> = moonloop.timeout(0.08)
  for _ = 1, pages do
    moonloop.sleep(0.01)
    limit:reschedule(moonloop.time() + 0.08)
  end
  return pages
end

print("patiently: " .. fetch_patiently(10) .. " pages")
