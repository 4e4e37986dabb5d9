-- SPDX-License-Identifier: MIT
-- What: moonloop.run(main, ...) runs a function as a task and returns its values.
-- Why: it is how stock Lua starts the loop. Under the `moonloop` command, where a loop runs
--      already, the same call gives `main` a scope of its own; so one script works under both.
-- Usage: moonloop examples/concepts_run.lua
--        lua5.4 examples/concepts_run.lua     (with moonloop.so on the LUA_CPATH)
local moonloop = require "moonloop"

local function main(a, b)
  moonloop.sleep(0.01)
  return a + b, a * b
end

print("sum and product:", moonloop.run(main, 6, 7))

print("an error comes out too:", pcall(moonloop.run, function()
  moonloop.sleep(0.01)
  error("nothing to add", 0)
end))

print("and again:", moonloop.run(main, 1, 2))
