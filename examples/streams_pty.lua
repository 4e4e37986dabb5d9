-- SPDX-License-Identifier: MIT
-- What: moonloop.open_pty() opens a terminal of our own: a Stream, and the path of its other side.
-- Why: many programs ask questions, or flush their output, on a terminal only. Here a program is
--      talked to as somebody at a keyboard would.
-- Usage: moonloop examples/streams_pty.lua
local moonloop = require "moonloop"

local terminal <close>, path = moonloop.open_pty()
local script = [[test -t 0 && printf 'name? '; read name; echo "hello, $name"]]
local program = io.popen(("exec <%s >%s; %s"):format(path, path, script), "w")

print(terminal:readuntil("? "))
terminal:write("Luna\n")
for line in terminal:lines() do -- what was typed is shown first, as on every terminal
  print((line:gsub("\r$", "")))
end
program:close()
