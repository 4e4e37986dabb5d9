-- SPDX-License-Identifier: MIT
-- What: loop:call_later(delay, fn, ...) runs a function after some seconds.
-- Why: order follows the delays, not the calls; what is due already (call_soon) comes first.
-- Usage: moonloop examples/scheduling_call_later.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

loop:call_later(0.06, print, "after 0.06 s")
loop:call_later(0.02, print, "after 0.02 s")
loop:call_later(0.04, print, "after 0.04 s")
loop:call_soon(print, "soon")

moonloop.sleep(0.1)
