-- SPDX-License-Identifier: MIT
-- What: when the main task ends, every task left over is cancelled, and the command waits for it.
-- Why: a program ends when its main task ends, but nobody's clean-up is skipped.
-- Usage: moonloop examples/concepts_leftovers.lua
local moonloop = require "moonloop"

local function ticker()
  local _ <close> = moonloop.defer(function()
    print("ticker: saving my state")
    moonloop.sleep(0.01) -- clean-up may wait
    print("ticker: saved")
  end)
  while true do
    print("ticker: tick")
    moonloop.sleep(10)
  end
end

moonloop.create_task(ticker)
moonloop.sleep(0.01)
print("main: the end")
