-- SPDX-License-Identifier: MIT
-- Keeps a program running beside a spec and ends it with a to-be-closed variable. Builds on
-- command.lua and script.lua; `timeout` sees to it that the program ends in any case.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local script = require "spec.support.script"

local M = {}

local LONGEST = 60 -- seconds that such a program may run
local PATIENCE = 20 -- seconds in which it has to say what is expected

local Program = {}
Program.__index = Program
Program.__name = "Program"

-- Ends the program and removes its files.
function Program.__close(self)
  command.run { "kill", self.pid }
  local _ <close> = self.folder
end

--- What the program has written so far, errors included.
function Program:output()
  return self.folder:read("said")
end

--- Starts `argv` and waits until its output matches `pattern`. Awaits.
-- @return a to-be-closed Program, whose `found` is what the pattern captured
function M.start(argv, pattern)
  local folder = script.folder()
  local line = 'said="$0"; timeout ' .. LONGEST .. ' "$@" >"$said" 2>&1 & echo $!'
  local shell = { "/bin/sh", "-c", line, folder:write("said", "") }
  local _, pid = command.run(table.move(argv, 1, #argv, #shell + 1, shell))
  local self = setmetatable({ folder = folder, pid = pid:match("%d+") }, Program)
  local deadline = moonloop.time() + PATIENCE
  repeat
    moonloop.sleep(0.02)
    self.found = self:output():match(pattern)
  until self.found or moonloop.time() > deadline
  if not self.found then
    local said = self:output()
    Program.__close(self)
    error("the program did not begin as expected: " .. said)
  end
  return self
end

return M
