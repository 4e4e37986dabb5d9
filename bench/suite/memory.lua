-- SPDX-License-Identifier: MIT
--
-- The memory workload: by how much the resident memory of an echo server grows
-- with each idle connection. The servers are those of the echo workload; the
-- connections are held by a client in a process of its own.

local proc = require "lib.proc"
local stats = require "lib.stats"

local M = { name = "memory" }

local CONNECTIONS, REPS = 10000, 3 -- the figure hardly varies

local function measure(bench, contender)
  local server <close> = proc.server(contender.echo)
  local flags = ("-p %d -P %d -c %d"):format(server.port, server.pid, CONNECTIONS)
  local descriptors = "sh -c 'ulimit -n $(ulimit -H -n); exec %s'"
  local client = descriptors:format(bench:tool("hold", flags))
  return proc.json(proc.on_client_core(client))
end

--- Measures every echo server and returns one row.
function M.run(bench)
  local row = {
    what = "10,000 idle connections", unit = "bytes each", digits = 0, lower = true,
    bar = { most = 2000 }, samples = {},
  }
  local samples = bench:rounds("memory: idle connections", bench:taking_part("echo"), REPS,
    function(contender) return measure(bench, contender) end)
  for name, list in pairs(samples) do
    row.samples[name] = stats.pluck(list, "bytes_each")
  end
  return { row }
end

return M
