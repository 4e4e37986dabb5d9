-- SPDX-License-Identifier: MIT
--
-- What can be counted instead of timed: system calls with strace and user-space
-- instructions with callgrind. Both are the difference of a long run and a
-- short one, so starting, connecting and ending drop out. Where the tool is not
-- installed the figure is nil.

local proc = require "lib.proc"

local M = {}

-- `-I 2`: with a report file strace would otherwise ignore being told to end.
local STRACE = "strace -I 2 -qq -f -c -U name,calls -o %s %s"
local CALLGRIND = "valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file=%s %s"
local ENVIRONMENT = "env MOONLOOP_NO_PIDFD=1 " -- valgrind 3.19 knows no pidfd_open

local function with_report(fn)
  local path = os.tmpname()
  local ok, result = pcall(fn, path)
  local file = assert(io.open(path))
  local text = file:read("a")
  file:close()
  os.remove(path)
  if not ok then error(result, 0) end
  return text
end

local function calls_in(report)
  return tonumber(report:match("(%d+) total") or report:match("total%s+(%d+)"))
    or error("strace: no total in its report: " .. report, 0)
end

local function instructions_in(report)
  return tonumber(report:match("Collected : (%d+)"))
    or error("callgrind: no count in its report: " .. report, 0)
end

local function serve(command, client)
  local server <close> = proc.server(command)
  proc.json(proc.on_client_core(client:format(server.port)))
end

-- Per message: `client` is a command line with %d for the port, and takes the
-- number of messages after its last flag.
local function per_message(wrapper, count, server, client, few, many)
  local function total(messages)
    return count(with_report(function(path)
      serve(wrapper:format(path, server), client .. " -n " .. messages)
    end))
  end
  return (total(many) - total(few)) / (many - few)
end

--- System calls of a server for each message that it is sent.
function M.calls_per_message(server, client, few, many)
  if not proc.exists("strace") then return nil end
  return per_message(STRACE, calls_in, server, client, few, many)
end

--- User-space instructions of a server for each message that it is sent.
function M.instructions_per_message(server, client, few, many)
  if not proc.exists("valgrind") then return nil end
  return per_message(ENVIRONMENT .. CALLGRIND, instructions_in, server, client, few, many)
end

--- Instructions for each step of a program that takes their number last.
function M.instructions_per_step(command, few, many)
  if not proc.exists("valgrind") then return nil end
  local function total(steps)
    return instructions_in(with_report(function(path)
      proc.json(ENVIRONMENT .. CALLGRIND:format(path, command .. " " .. steps))
    end))
  end
  return (total(many) - total(few)) / (many - few)
end

return M
