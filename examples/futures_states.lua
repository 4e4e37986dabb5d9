-- SPDX-License-Identifier: MIT
-- What: a future is pending, then done, and it is set only once.
-- Why: asking for a result that is not there, or setting a second one, is a mistake in the program,
--      and it is told at once, by an InvalidStateError.
-- Usage: moonloop examples/futures_states.lua
local moonloop = require "moonloop"

local function attempt(what, fn, ...)
  local ok, e = pcall(fn, ...)
  print(what .. ": " .. (ok and "fine" or e.kind))
end

local future = moonloop.Future()
attempt("result while pending", future.result, future)
attempt("error while pending", future.error, future)
attempt("set", future.set_result, future, 1)
attempt("result when done", future.result, future)
attempt("error when there is none", future.error, future)
attempt("set again", future.set_result, future, 2)
print("value: " .. future:result())
