-- SPDX-License-Identifier: MIT
-- A Future that is completed by who has hardly any room left, deep in nested
-- calls of C functions: those who wait for it hear of it all the same.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

-- Calls `fn` below so many calls of a C function.
local function nest(depth, fn)
  if depth == 0 then return fn() end
  return (string.gsub("x", "x", function() nest(depth - 1, fn) end))
end

local DEEPEST <const> = 210 -- more than Lua allows

-- Starts `wait(future)` for one depth after the other, completes the future at
-- that depth where that is possible, and tells who did not hear of it.
local function unheard(wait)
  local deaf, refused = {}, 0
  for depth = 150, DEEPEST do
    local future = moonloop.Future()
    local task = tasks.start(wait, future)
    local ok = pcall(nest, depth, function() future:set_result(depth) end)
    if not future:done() then refused = refused + 1 end
    if ok ~= future:done() then deaf[#deaf + 1] = ("%d raised, but is done"):format(depth) end
    testing.wait_all_blocked()
    if task:done() ~= future:done() then deaf[#deaf + 1] = ("%d hangs"):format(depth) end
    if not task:done() then tasks.cancel(task) end
  end
  assert.is_true(refused > 0, "the calls did not go deep enough")
  return deaf
end

describe("A Future completed at the end of the C stack", function()
  local WAITS = {
    gather = function(future) moonloop.gather(future) end,
    ["gather of several"] = function(future)
      moonloop.gather(future, function() moonloop.sleep(0) end)
    end,
    race = function(future) moonloop.race { future, moonloop.sleep_forever } end,
    wait = function(future)
      moonloop.wait({ future, moonloop.Future() }, { return_when = "FIRST_COMPLETED" })
    end,
    wait_for = function(future) moonloop.wait_for(future, 3600) end,
    as_completed = function(future)
      for _ in moonloop.as_completed { future } do moonloop.sleep(0) end
    end,
    await = function(future) future:await() end,
  }

  for name, wait in pairs(WAITS) do
    it("wakes who waits in " .. name, function()
      assert.same({}, unheard(wait))
    end)
  end
end)
