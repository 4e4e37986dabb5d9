-- SPDX-License-Identifier: MIT
-- What: timeouts inside timeouts: the earliest deadline wins, and the error says whose it was.
-- Why: a function may limit what it does without knowing how its caller is limited. It catches its
--      own timeout; the caller's goes past it to the caller.
-- Usage: moonloop examples/control_timeout_nested.lua
local moonloop = require "moonloop"

local function attempt(seconds)
  local _ <close> = moonloop.timeout(seconds)
  moonloop.sleep(10)
end

-- A longer try each time; a timeout of its own is no reason to give up.
local function keep_trying()
  for n, seconds in ipairs { 0.01, 0.02, 10 } do
    local ok, e = pcall(attempt, seconds)
    print("  attempt " .. n, ok, e.kind)
    if e.kind ~= "TimeoutError" then
      error(e, 0)
    end
  end
end

local function mission()
  local _ <close> = moonloop.timeout(0.5)
  keep_trying()
end

local ok, e = pcall(mission)
print("mission", ok, e.kind)
print((e.message:gsub("[^ ]*/", "")))
