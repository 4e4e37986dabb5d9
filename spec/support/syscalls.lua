-- SPDX-License-Identifier: MIT
-- Counts the system calls of a server that runs under strace while a spec talks to it. Builds on
-- peers.lua and script.lua.
local command = require "spec.support.command"
local moonloop = require "moonloop"
local peers = require "spec.support.peers"
local script = require "spec.support.script"

local M = {}

--- Whether there is a strace that may trace here.
function M.can_count()
  local status = command.run({ "strace", "-c", "-U", "name,calls", "-o", "/dev/null", "true" })
  return status == 0
end

-- What stands before a server's own code: `tell(port)` tells the spec where it serves
-- and returns when the spec is done.
local BEFORE = [[
  local moonloop = require "moonloop"
  local function tell(port)
    local spec <close> = moonloop.connect("127.0.0.1", %d)
    spec:write(port, "\n")
    spec:read()
  end
]]

local function calls_in(report)
  local calls = {}
  for name, count in report:gmatch("([%w_]+)%s+(%d+)\n") do
    if name ~= "total" then calls[name] = math.tointeger(tonumber(count)) end
  end
  return calls
end

--- Runs a server under strace while `talk(port)` lasts. Awaits.
-- @param source the server's code, which calls `tell(port)`, with `tell` and `moonloop` at hand
-- @return a table of how often each system call was made
function M.count(source, talk)
  local folder <close> = script.folder()
  local came, done = moonloop.Future(), moonloop.Future()
  local server <close> = moonloop.start_server(function(stream)
    came:set_result(math.tointeger(tonumber(stream:readline())))
    done:await()
  end, "127.0.0.1", 0)
  local path = folder:write("server.lua", BEFORE:format(server:port()) .. source)
  -- Looking for leaks is no business of a process that is being traced.
  local job = peers.start(("ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 exec strace -f -qq -c " ..
    "-U name,calls -o %s/report %s %s"):format(folder.path, script.binary, path))
  job.ended:add_done_callback(function()
    if not came:done() then came:set_error("the server ended too early") end
  end)
  local ok, err = pcall(function() talk(came:await()) end)
  done:set_result()
  local status, out = job:wait()
  assert(status == 0, out)
  if not ok then error(err, 0) end
  return calls_in(folder:read("report"))
end

--- The sum of the counts of those calls.
function M.sum(calls, ...)
  local total = 0
  for _, name in ipairs { ... } do total = total + (calls[name] or 0) end
  return total
end

--- The sum of all counts but those of these calls.
function M.others(calls, ...)
  local total = 0
  for _, count in pairs(calls) do total = total + count end
  return total - M.sum(calls, ...)
end

return M
