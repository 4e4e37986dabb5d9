-- SPDX-License-Identifier: MIT
-- Short words for what nearly every spec does with tasks: start one and wait
-- until it waits, look at how it ended, catch what is reported. Builds on the
-- public names only.
local moonloop = require "moonloop"

local M = {}

--- Makes a task of `fn` and waits until it and all others wait. Awaits.
function M.start(...)
  local task = moonloop.create_task(...)
  moonloop.testing.wait_all_blocked()
  return task
end

--- Lets `task` end and gives pcall's answer about it. Awaits.
function M.outcome(task)
  return pcall(moonloop.await, task)
end

--- Runs `fn` in a task of its own and returns the error it fails with. Awaits.
function M.failure(fn, ...)
  local ok, err = M.outcome(moonloop.create_task(fn, ...))
  assert(not ok, "the task did not fail")
  return err
end

--- Cancels `task` and waits for its end. Awaits.
-- @return whether it ended cancelled
function M.cancel(task, msg)
  task:cancel(msg)
  pcall(moonloop.await, task)
  return task:cancelled()
end

--- Collects what goes to the exception handler until the value is closed.
function M.reports()
  local loop = moonloop.get_running_loop()
  local list = {}
  loop:set_exception_handler(function(_, context) list[#list + 1] = context end)
  return setmetatable(list, {
    __close = function() loop:set_exception_handler(nil) end,
  })
end

--- A value that appends `what` to `list` when it is closed.
function M.mark(list, what)
  return setmetatable({}, { __close = function() list[#list + 1] = what end })
end

--- The first value of `list` that `accept` answers true for.
function M.find(list, accept)
  for _, value in ipairs(list) do
    if accept(value) then return value end
  end
end

--- The kind of the Error that `fn(...)` raises; false where it raises none.
function M.kind(fn, ...)
  local ok, err = pcall(fn, ...)
  return not ok and moonloop.is_error(err) and err.kind
end

--- What `fn(...)` has to raise: the kind of an Error, another value as it is.
function M.raised(fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "nothing was raised")
  return moonloop.is_error(err) and err.kind or err
end

--- A Future that has these values.
function M.ready(...)
  local future = moonloop.Future()
  future:set_result(...)
  return future
end

--- Has what failed and cannot be reached any more collected, and reported. Awaits.
function M.collect()
  collectgarbage()
  collectgarbage()
  moonloop.testing.wait_all_blocked()
end

--- A function that waits for ever; once cancelled it waits for `gate`, and appends
-- "cleaned" to `list`.
function M.cleaning(gate, list)
  return function()
    local _ <close> = moonloop.defer(function()
      gate:await()
      list[#list + 1] = "cleaned"
    end)
    moonloop.sleep_forever()
  end
end

return M
