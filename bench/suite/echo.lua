-- SPDX-License-Identifier: MIT
--
-- The echo workload: Streams, one task for each connection, in four cells
-- against a raw C server on libev.

local echo = require "lib.echo"

local M = { name = "echo" }

local CELLS = {
  { what = "50 x 64 B", flags = "-c 50 -s 64", bar = 90 },
  { what = "1000 x 64 B", flags = "-c 1000 -s 64", bar = 85 },
  { what = "50 x 16 KiB", flags = "-c 50 -s 16384", bar = 75 },
  { what = "50 x 64 B pipelined x16", flags = "-c 50 -s 64 -d 16", bar = 90 },
}

--- Measures all cells and returns their rows.
function M.run(bench)
  return echo.run(bench, M.name, CELLS, { load = "load", user_time = 1.0 })
end

return M
