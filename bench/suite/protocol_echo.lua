-- SPDX-License-Identifier: MIT
--
-- The protocol_echo workload: the callback layer, transports and protocols,
-- against a raw C server on libev.

local echo = require "lib.echo"

local M = { name = "protocol_echo" }

local CELLS = {
  { what = "50 x 64 B", flags = "-c 50 -s 64", bar = 92 },
}

--- Measures the cell and returns its rows.
function M.run(bench)
  return echo.run(bench, M.name, CELLS, { load = "load", user_time = 1.0 })
end

return M
