-- SPDX-License-Identifier: MIT
-- Thousands of tasks over locks, semaphores, events, conditions, barriers, queues,
-- groups and the calls that await many, on the virtual clock, cancelled, timed out
-- and closed at random. All times are whole ticks, so much happens in one turn.
-- Whatever breaks a promise is printed with a traceback, and the status is 1.
-- Usage: moonloop spec/support/structured_torture.lua SEED
local m = require "moonloop"
local control = require "spec.support.structured_torture_control"
local sync = require "spec.support.structured_torture_sync"
local tools = require "spec.support.structured_torture_tools"

local ROUNDS = 20

math.randomseed(math.tointeger(tonumber((...))) or 1)

-- In an order of its own: with one seed everything comes again.
local acts = {}
for _, list in ipairs { control, sync } do
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do acts[#acts + 1] = list[name] end
end

-- A job that fails when it was cancelled already, and a child that fails to start
-- when nobody waits for its start any more, are nobody's, hence reported.
m.get_running_loop():set_exception_handler(function(_, context)
  local err = context.error
  local fine = type(err) == "table" and (err.job or err.start)
  tools.check(fine, context.message .. ": " .. tostring(err))
end)

local function round()
  local _ <close> = m.testing.virtual_clock { threshold = 0 }
  tools.start_ticks()
  local all = {}
  for _ = 1, 2 do
    for _, act in ipairs(acts) do all[#all + 1] = m.create_task(act) end
  end
  local hunter = m.create_task(tools.hunt)
  for _, task in ipairs(all) do task:await() end
  hunter:cancel()
  pcall(hunter.await, hunter)
end

for _ = 1, ROUNDS do round() end
m.testing.wait_all_blocked()
for _, leak in ipairs(m.testing.leaks()) do tools.check(false, leak) end
print("survived " .. tools.made .. " tasks")
