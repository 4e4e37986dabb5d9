-- SPDX-License-Identifier: MIT
-- What: moonloop.time() and loop:time() tell the loop's clock, in seconds.
-- Why: it is monotonic: setting the computer's clock does not move it. Its zero means nothing; only
--      differences do. A timer never fires early by it.
-- Usage: moonloop examples/scheduling_time.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local a = moonloop.time()
local b = loop:time()
print("both are one clock: " .. tostring(b >= a and b - a < 5))

local early = 0
for i = 1, 10 do
  local start = moonloop.time()
  moonloop.sleep(i / 1000)
  if moonloop.time() - start < i / 1000 then
    early = early + 1
  end
end
print("sleeps that ended early: " .. early)
