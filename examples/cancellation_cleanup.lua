-- SPDX-License-Identifier: MIT
-- What: three ways to clean up: defer, an object with __close, and pcall.
-- Why: however a block is left, by its end, an error or a cancellation, what it has opened is
--      closed. In a cancelled task waits raise; inside defer and moonloop.shield they work.
-- Usage: moonloop examples/cancellation_cleanup.lua
local moonloop = require "moonloop"

local function say_goodbye(name)
  moonloop.sleep(0.01) -- it takes a moment
  print("  " .. name .. ": closed")
end

local function by_defer()
  local _ <close> = moonloop.defer(function() say_goodbye("by defer") end)
  moonloop.sleep(10)
end

local Door = { __close = function(self) moonloop.shield(say_goodbye, self.name) end }

local function by_close()
  local _ <close> = setmetatable({ name = "by __close" }, Door)
  moonloop.sleep(10)
end

local function by_pcall()
  local ok, e = pcall(moonloop.sleep, 10)
  moonloop.shield(say_goodbye, "by pcall")
  if not ok then
    error(e, 0) -- it is still a cancellation
  end
end

local function careless()
  local ok, e = pcall(moonloop.sleep, 10)
  say_goodbye("careless") -- not shielded: its wait raises
  print("  not reached", ok, e)
end

local group = {}
for i, fn in ipairs { by_defer, by_close, by_pcall, careless } do
  group[i] = moonloop.create_task(fn)
end
moonloop.sleep(0)
for _, task in ipairs(group) do
  task:cancel()
end
moonloop.wait(group)
for i, task in ipairs(group) do
  print(i .. " is cancelled: " .. tostring(task:cancelled()))
end
