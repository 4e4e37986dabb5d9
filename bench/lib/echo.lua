-- SPDX-License-Identifier: MIT
--
-- What the workloads with echo servers share: requests a second and CPU for
-- each echo in some cells, against the control, and what decides over the
-- ratios: user-space time, system calls and instructions for each echo.

local instruments = require "lib.instruments"
local proc = require "lib.proc"
local stats = require "lib.stats"

local M = {}

local WINDOW, QUICK_WINDOW = "-w 0.4 -t 2", "-w 0.2 -t 0.5"
local FEW, MANY = 2000, 12000 -- messages, where they are counted

local function measure_server(bench, load, command, flags)
  local server <close> = proc.server(command)
  local client = ("-p %d -P %d %s %s"):format(server.port, server.pid, flags,
    bench.quick and QUICK_WINDOW or WINDOW)
  return proc.json(proc.on_client_core(bench:tool(load, client)))
end

local function column(samples, field)
  local by_name = {}
  for name, list in pairs(samples) do
    by_name[name] = stats.pluck(list, field)
  end
  return by_name
end

-- Requests a second flatter a slow server in the cells where the generator is
-- the one that is busy all the time; the CPU beside them does not.
local function rows_of_cell(cell, samples, deciders)
  local requests = {
    what = cell.what, unit = "requests/s", digits = 0, samples = column(samples, "rps"),
    bar = { ratio = cell.bar }, deciders = deciders,
  }
  local cpu = {
    what = cell.what, unit = "us of CPU each", digits = 3, lower = true,
    samples = column(samples, "server_cpu_us"),
  }
  return requests, cpu
end

-- Some 4 % of the CPU is user time (of a plain echo), and the kernel samples it
-- by the tick: only all repetitions together give a figure.
local function user_time(samples, most)
  local row = {
    what = "user time", unit = "us", digits = 3, lower = true, bar = most and { most = most },
    samples = column(samples, "server_user_us"), pooled = {},
  }
  for name, list in pairs(samples) do
    local time, requests = 0, 0
    for _, sample in ipairs(list) do
      time = time + sample.server_user_us * sample.requests
      requests = requests + sample.requests
    end
    row.pooled[name] = time / requests
  end
  return row
end

local function counted(bench, load, workload, cell, row, count)
  local client = bench:tool(load, "-p %d " .. cell.flags)
  row.samples = {}
  bench:say(workload, ": ", row.what, "\n")
  for _, contender in ipairs(bench:taking_part(workload)) do
    row.samples[contender.name] = { bench:try(count, contender[workload], client, FEW, MANY) }
  end
  return row
end

--- Measures the echo servers of a workload and returns the rows.
-- @param workload its name, under which a contender has the server's command
-- @param cells a list of `what`, `flags` of bench/load and `bar` (a ratio in
-- percent); what decides is measured and counted in the first one
-- @param options `load`: the load generator; `user_time`: the bar in us, if any
function M.run(bench, workload, cells, options)
  local contenders, rows, deciders = bench:taking_part(workload), {}, {}
  local load = options.load
  for i, cell in ipairs(cells) do
    local samples = bench:rounds(workload .. ": " .. cell.what, contenders, bench.reps,
      function(contender) return measure_server(bench, load, contender[workload], cell.flags) end)
    if i == 1 then deciders[1] = user_time(samples, options.user_time) end
    rows[#rows + 1], rows[#rows + 2] = rows_of_cell(cell, samples, deciders)
  end
  deciders[2] = counted(bench, load, workload, cells[1], {
    what = "system calls", unit = "each", digits = 2, lower = true, bar = { most = 2.2 },
  }, instruments.calls_per_message)
  table.move(deciders, 1, 2, #rows + 1, rows)
  rows[#rows + 1] = counted(bench, load, workload, cells[1], {
    what = "user instructions", unit = "each", digits = 0, lower = true,
  }, instruments.instructions_per_message)
  return rows
end

return M
