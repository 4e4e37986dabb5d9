-- SPDX-License-Identifier: MIT
--
-- The startup workload: wall time of an empty script, from posix_spawn to the
-- end of the process, beside the standalone Lua interpreter.

local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "startup" }

local RUNS, QUICK_RUNS = 100, 30 -- of the script in one repetition

--- Measures every interpreter and returns one row.
function M.run(bench)
  local row = {
    what = "empty script", unit = "ms", digits = 2, lower = true, bar = { most = 4.5 },
    samples = {},
  }
  local runs = bench.quick and QUICK_RUNS or RUNS
  local samples = bench:rounds("startup: empty script", bench:taking_part("startup"),
    bench.reps, function(contender)
      local command = bench:tool("startup", runs .. " " .. contender.startup)
      return proc.json(proc.on_server_core(command))
    end)
  for name, list in pairs(samples) do
    row.samples[name] = stats.pluck(list, "median_ms")
  end
  return { row }
end

return M
