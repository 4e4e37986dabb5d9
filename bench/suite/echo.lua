-- SPDX-License-Identifier: MIT
--
-- The echo workload: requests a second and CPU for each echo in four cells,
-- against a raw C server on libev, and what decides over the ratios: user-space
-- time, system calls and instructions for each echo.

local instruments = require "lib.instruments"
local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "echo" }

local CELLS = {
  { what = "50 x 64 B", flags = "-c 50 -s 64", bar = 90 },
  { what = "1000 x 64 B", flags = "-c 1000 -s 64", bar = 85 },
  { what = "50 x 16 KiB", flags = "-c 50 -s 16384", bar = 75 },
  { what = "50 x 64 B pipelined x16", flags = "-c 50 -s 64 -d 16", bar = 90 },
}
local WINDOW, QUICK_WINDOW = "-w 0.4 -t 2", "-w 0.2 -t 0.5"
local FEW, MANY = 2000, 12000 -- messages, where they are counted

local function measure_server(bench, contender, flags)
  local server <close> = proc.server(contender.echo)
  local client = ("-p %d -P %d %s %s"):format(server.port, server.pid, flags,
    bench.quick and QUICK_WINDOW or WINDOW)
  return proc.json(proc.on_client_core(bench:tool("load", client)))
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

-- Some 4 % of the CPU is user time, and the kernel samples it by the tick: only
-- all repetitions together give a figure.
local function user_time(samples)
  local row = {
    what = "user time", unit = "us", digits = 3, lower = true, bar = { most = 1.0 },
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

local function counted(bench, contenders, row, count)
  local client = bench:tool("load", "-p %d " .. CELLS[1].flags)
  row.samples = {}
  bench:say("echo: ", row.what, "\n")
  for _, contender in ipairs(contenders) do
    row.samples[contender.name] = { bench:try(count, contender.echo, client, FEW, MANY) }
  end
  return row
end

local function system_calls(bench, contenders)
  local row = { what = "system calls", unit = "each", digits = 2, lower = true }
  row.bar = { most = 2.2 }
  return counted(bench, contenders, row, instruments.calls_per_message)
end

local function instructions(bench, contenders)
  local row = { what = "user instructions", unit = "each", digits = 0, lower = true }
  return counted(bench, contenders, row, instruments.instructions_per_message)
end

--- Measures all cells and returns their rows.
function M.run(bench)
  local contenders, rows, deciders = bench:taking_part("echo"), {}, {}
  for i, cell in ipairs(CELLS) do
    local samples = bench:rounds("echo: " .. cell.what, contenders, bench.reps,
      function(contender) return measure_server(bench, contender, cell.flags) end)
    if i == 1 then deciders[1] = user_time(samples) end
    rows[#rows + 1], rows[#rows + 2] = rows_of_cell(cell, samples, deciders)
  end
  deciders[2] = system_calls(bench, contenders)
  table.move(deciders, 1, 2, #rows + 1, rows)
  rows[#rows + 1] = instructions(bench, contenders)
  return rows
end

return M
