-- SPDX-License-Identifier: MIT
--
-- The queue workload: an item's way from a producer through a bounded queue to
-- a consumer, in CPU time and in instructions.

local instruments = require "lib.instruments"
local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "queue" }

local FEW, MANY = 20000, 120000 -- items, where instructions are counted

local function measure(contender)
  return proc.json(proc.on_server_core(contender.queue))
end

--- Measures the way of an item and returns its rows.
function M.run(bench)
  local contenders = bench:taking_part("queue")
  local samples = bench:rounds("queue: bounded 64", contenders, bench.reps, measure)
  local time = {
    what = "bounded 64, an item", unit = "ns", digits = 0, lower = true, bar = { most = 180 },
    samples = {},
  }
  local count = {
    what = "instructions, an item", unit = "each", digits = 0, lower = true, samples = {},
  }
  for _, contender in ipairs(contenders) do
    local name = contender.name
    time.samples[name] = stats.pluck(samples[name], "item_ns")
    count.samples[name] = {
      bench:try(instruments.instructions_per_step, contender.queue, FEW, MANY),
    }
  end
  return { time, count }
end

return M
