-- SPDX-License-Identifier: MIT
--
-- The sendfile workload: a file of 1 GiB from an HTTP server to one client,
-- against nginx, and what memory that takes. The file is sparse, so nothing
-- is written to the disk meanwhile; the servers read it from the page cache.

local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "sendfile" }

local SIZE = 1024 * 1024 * 1024
local MARKED = 16 * 1024 * 1024 + 12345 -- every so many bytes there is some text
local TRANSFERS, QUICK_TRANSFERS = 6, 2 -- in one repetition

local FIGURES = {
  { field = "mib_per_s", what = "1 GiB", unit = "MiB/s", digits = 0, bar = { ratio = 95 } },
  { field = "server_cpu_ms", what = "1 GiB", unit = "ms of CPU", digits = 0, lower = true },
  -- Since the first transfer of all; some pages of code may be touched later.
  { field = "memory_growth_kib", what = "growth of memory", unit = "KiB", digits = 0,
    lower = true, bar = { most = 256 } },
}

local function make_file(folder)
  local path = folder .. "/file"
  local file <close> = assert(io.open(path, "wb"))
  for at = 0, SIZE - 100, MARKED do
    file:seek("set", at)
    file:write("here is byte ", at)
  end
  file:seek("set", SIZE - 3)
  file:write("end")
  return path
end

local function measure_server(bench, contender, path)
  local server <close> = proc.server(contender.sendfile .. " " .. path)
  local client = ("-p %d -P %d -n %d %s"):format(server.port, server.pid,
    bench.quick and QUICK_TRANSFERS or TRANSFERS, path)
  return proc.json(proc.on_client_core(bench:tool("fetch", client)))
end

local function rows_of(samples)
  local rows = {}
  for i, figure in ipairs(FIGURES) do
    local row = setmetatable({ samples = {} }, { __index = figure })
    for name, list in pairs(samples) do
      row.samples[name] = stats.pluck(list, figure.field)
    end
    rows[i] = row
  end
  rows[1].deciders = { rows[3] }
  return rows
end

--- Measures every server and returns the rows.
function M.run(bench)
  local folder = assert(proc.capture("mktemp -d")):match("%S+")
  local ok, samples = pcall(function()
    local path = make_file(folder)
    return bench:rounds("sendfile: 1 GiB", bench:taking_part("sendfile"), bench.reps,
      function(contender) return measure_server(bench, contender, path) end)
  end)
  proc.capture("rm -r " .. folder)
  if not ok then error(samples, 0) end
  return rows_of(samples)
end

return M
