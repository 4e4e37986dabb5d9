-- SPDX-License-Identifier: MIT
-- A helper for busted (`--helper=moonloop.testing.busted`): after each `it` it
-- fails on what that left open, and closes it, so that no other spec suffers.

local busted = require "busted"
local core = require "moonloop.core"
local testing = require "moonloop.testing"

testing.record_sites()

local mark, name

busted.subscribe({ "test", "start" }, function(element, parent)
  local words = { element.name }
  while parent and parent.name and parent.descriptor ~= "file" do
    table.insert(words, 1, parent.name)
    parent = busted.parent(parent)
  end
  name = table.concat(words, " ")
  return nil, true
end)

busted.before_each(function()
  mark = testing.mark()
end)

local function close(leak)
  if leak.kind == "task" then
    leak.object:cancel()
    pcall(core.join, leak.object)
  elseif leak.kind == "timer" then
    leak.object:cancel()
  end
end

-- Ctrl-C cancels the main task, which is busted; its pcalls would go on for
-- ever with specs that cannot await.
local function end_when_cancelled()
  local task = core.current_task()
  if not task or task:cancelling() == 0 then return end
  io.stderr:write("interrupted\n")
  os.exit(130, true)
end

busted.after_each(function()
  end_when_cancelled()
  if core.current_task() then testing.wait_all_blocked() end
  local leaks = testing.leaks(mark)
  if #leaks == 0 then return end
  local lines = {}
  for i, leak in ipairs(leaks) do
    lines[i] = "\n  " .. tostring(leak)
    close(leak)
  end
  error(("the spec '%s' left open:%s"):format(name, table.concat(lines)), 0)
end)
