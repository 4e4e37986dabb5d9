-- SPDX-License-Identifier: MIT
--
-- The tasks workload: spawn to finish, the switch between two tasks, many
-- sleepers; and the instructions of the first two.

local instruments = require "lib.instruments"
local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "tasks" }

local FEW, MANY = 20000, 120000 -- steps, where instructions are counted

local PARTS = {
  { part = "spawn", figures = {
    { field = "spawn_ns", what = "spawn to finish", unit = "ns", digits = 0, most = 250 },
  } },
  { part = "switch", figures = {
    { field = "switch_ns", what = "sleep(0) of two tasks", unit = "ns", digits = 0, most = 150 },
  } },
  { part = "sleepers", figures = {
    { field = "sleeper_us", what = "100,000 sleepers", unit = "us each", digits = 2, most = 4.5 },
    { field = "sleeper_bytes", what = "100,000 sleepers", unit = "bytes each", digits = 0,
      most = 1800 },
  } },
}

local function row_of(figure, samples)
  local row = {
    what = figure.what, unit = figure.unit, digits = figure.digits, lower = true,
    bar = { most = figure.most }, samples = {},
  }
  for name, list in pairs(samples) do
    row.samples[name] = stats.pluck(list, figure.field)
  end
  return row
end

local function instructions(bench, contenders, part)
  local row = {
    what = "instructions, " .. part, unit = "each", digits = 0, lower = true, samples = {},
  }
  bench:say("tasks: ", row.what, "\n")
  for _, contender in ipairs(contenders) do
    local command = contender.tasks .. " " .. part
    row.samples[contender.name] = {
      bench:try(instruments.instructions_per_step, command, FEW, MANY),
    }
  end
  return row
end

--- Measures each part in processes of its own and returns the rows.
function M.run(bench)
  local contenders, rows = bench:taking_part("tasks"), {}
  for _, part in ipairs(PARTS) do
    local samples = bench:rounds("tasks: " .. part.part, contenders, bench.reps,
      function(contender)
        return proc.json(proc.on_server_core(contender.tasks .. " " .. part.part))
      end)
    for _, figure in ipairs(part.figures) do
      rows[#rows + 1] = row_of(figure, samples)
    end
  end
  rows[#rows + 1] = instructions(bench, contenders, "spawn")
  rows[#rows + 1] = instructions(bench, contenders, "switch")
  return rows
end

return M
