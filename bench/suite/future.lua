-- SPDX-License-Identifier: MIT
--
-- The future workload: the round trip of two tasks that hand each other
-- futures, in CPU time and in instructions.

local instruments = require "lib.instruments"
local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "future" }

local FEW, MANY = 10000, 60000 -- round trips, where instructions are counted

local function measure(contender)
  return proc.json(proc.on_server_core(contender.future))
end

--- Measures the round trip and returns its rows.
function M.run(bench)
  local contenders = bench:taking_part("future")
  local samples = bench:rounds("future: round trip", contenders, bench.reps, measure)
  local time = {
    what = "round trip", unit = "ns", digits = 0, lower = true, bar = { most = 550 },
    samples = {},
  }
  local count = {
    what = "instructions, round trip", unit = "each", digits = 0, lower = true, samples = {},
  }
  for _, contender in ipairs(contenders) do
    local name = contender.name
    time.samples[name] = stats.pluck(samples[name], "round_trip_ns")
    count.samples[name] = {
      bench:try(instruments.instructions_per_step, contender.future, FEW, MANY),
    }
  end
  return { time, count }
end

return M
