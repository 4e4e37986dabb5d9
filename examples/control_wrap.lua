-- SPDX-License-Identifier: MIT
-- What: moonloop.wrap makes a function that waits out of one that calls back.
-- Why: resolve and reject are the callbacks. What the function returns is called when the wait is
--      cancelled: there is the place to tell the other library that nobody is interested any more.
-- Usage: moonloop examples/control_wrap.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

-- Somebody else's library: it takes two callbacks and gives a number to cancel by.
local library = { handles = {} }

function library.ask(question, on_answer, on_failure)
  local id = #library.handles + 1
  library.handles[id] = loop:call_later(question == "the way" and 0.01 or 10, function()
    if question == "the way" then
      on_answer("straight on", 384400)
    else
      on_failure("nobody knows")
    end
  end)
  return id
end

function library.forget(id)
  library.handles[id]:cancel()
  print("  question " .. id .. " is withdrawn")
end

local function ask(question)
  return moonloop.wrap(function(resolve, reject)
    local id = library.ask(question, resolve, reject)
    return function() library.forget(id) end
  end)
end

print(ask("the way"))
print("in time: " .. tostring((moonloop.move_on_after(0.02, ask, "the meaning of it all"))))
print(pcall(moonloop.wrap, function(_, reject) reject("refused") end))
