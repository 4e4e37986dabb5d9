-- SPDX-License-Identifier: MIT
-- Tasks that never have to wait leave turns to the others: how many, by counting
-- turns and instructions, no clock.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_running_loop()

describe("A task that loops over calls that can return at once", function()
  local done = moonloop.Future()
  done:set_result()
  local many = {}
  for i = 1, 100 do many[i] = done end

  local CALLS = {
    gather = function() moonloop.gather(many) end,
    wait = function() moonloop.wait(many) end,
    race = function() moonloop.race(many) end,
  }

  for name, call in pairs(CALLS) do
    it("lets timers come after few turns of others: " .. name, function()
      local turns = 0
      local busy = moonloop.create_task(function()
        while true do call() end
      end)
      local counter = moonloop.create_task(function()
        while true do
          moonloop.sleep(0)
          turns = turns + 1
        end
      end)
      local woken = moonloop.Future()
      loop:call_later(0, woken.set_result, woken)
      woken:await()
      assert.is_true(turns <= 10, turns .. " turns")
      tasks.cancel(busy)
      tasks.cancel(counter)
    end)
  end
end)

describe("Guards of a semaphore that one task has", function()
  -- How many thousand instructions releasing `count` of them takes, oldest first.
  local function cost(count)
    local semaphore, guards, thousands = moonloop.Semaphore(count), {}, 0
    for i = 1, count do guards[i] = semaphore:acquire() end
    debug.sethook(function() thousands = thousands + 1 end, "", 1000)
    for i = 1, count do guards[i]:release() end
    debug.sethook()
    assert.is_false(semaphore:locked())
    return thousands
  end

  it("cost each the same to release, oldest first, however many", function()
    assert.is_true(cost(4000) < 5 * cost(1000))
  end)
end)
