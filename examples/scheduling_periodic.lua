-- SPDX-License-Identifier: MIT
-- What: a job that runs at a steady pace.
-- Why: sleeping for a fixed time after each run adds the run's own time to every period. Sleeping
--      until fixed moments does not drift.
-- Usage: moonloop examples/scheduling_periodic.lua
local moonloop = require "moonloop"

local function every(period, times, fn)
  local start = moonloop.time()
  for i = 1, times do
    moonloop.sleep_until(start + i * period)
    fn(i)
  end
end

every(0.02, 3, function(i)
  print("measurement " .. i)
  moonloop.sleep(0.01) -- the job takes half of the period itself
end)
