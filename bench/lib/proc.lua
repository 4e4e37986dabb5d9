-- SPDX-License-Identifier: MIT
--
-- Running programs from plain Lua: a command and its line of JSON, a server
-- that lives as long as a block, pinning to a core, and how much of a core
-- the rest of the machine used meanwhile. Knows nothing of any workload.

local M = {}

local SERVER_CORE, CLIENT_CORE = 0, 1
local TICKS_PER_SECOND = 100 -- of /proc; the same on every Linux that Lua runs on
local QUIET_TICKS = 4 -- what the tick accounting itself may be wrong by
local TIME_LIMIT = 90 -- seconds for one command

local root = "."

-- Every command runs in this folder.
function M.set_root(path) root = path end

local function in_root(command) return ("cd '%s' && %s"):format(root, command) end

--- Runs a shell command and returns what it printed, or nil and why not.
function M.capture(command)
  local pipe = assert(io.popen(in_root(command), "r"))
  local text = pipe:read("a")
  local ok, how, status = pipe:close()
  if ok then return text end
  return nil, ("%s: %s %d"):format(command, how, status)
end

--- Whether a program can be run: a path below the root, or a name in PATH.
function M.exists(program)
  return M.capture(("command -v '%s' 2>/dev/null"):format(program)) ~= nil
end

local cores

local function pinned(core, command)
  cores = cores or tonumber(M.capture("nproc")) or 1
  if cores < 2 or not M.exists("taskset") then return command end
  return ("taskset -c %d %s"):format(core, command)
end

function M.on_server_core(command) return pinned(SERVER_CORE, command) end

function M.on_client_core(command) return pinned(CLIENT_CORE, command) end

-- The flat JSON objects of numbers that every benchmark program prints.
local function parse_json(line)
  local fields = {}
  for key, value in line:gmatch('"([%w_]+)":%s*([-+%d.eE]+)') do
    fields[key] = tonumber(value)
  end
  return next(fields) and fields
end

--- Runs a command that prints one line of JSON and returns its fields.
function M.json(command)
  local limited = ("timeout -k 1 %d %s"):format(TIME_LIMIT, command)
  local text, reason = M.capture(limited)
  if not text then error(reason, 0) end
  return parse_json(text) or error(command .. ": no JSON in: " .. text, 0)
end

-- Asks it to end, and ends it if it has not within 3 s.
local STOP = [[kill %d; for i in $(seq 100); do
  grep -q ') Z' /proc/%d/stat && exit; sleep 0.03; done; kill -KILL %d]]

local function stop_server(server)
  if server.stopped then return end
  server.stopped = true
  M.capture((STOP:gsub("%%d", server.pid)))
  server.pipe:close()
end

local server_meta = { __close = stop_server }

--- Starts a server that prints its port, with all the descriptors it may have.
-- It goes with its `<close>` variable, and with this process however that ends.
-- @return a table with `port` and `pid`
function M.server(command)
  local script = "ulimit -n $(ulimit -H -n); echo $$; exec setpriv --pdeathsig TERM "
    .. M.on_server_core(command) .. " </dev/null"
  local pipe = assert(io.popen(in_root(script), "r"))
  local pid, port = pipe:read("n", "n")
  local server = setmetatable({ pipe = pipe, pid = pid, port = port }, server_meta)
  if port then return server end
  stop_server(server)
  error(command .. ": printed no port", 0)
end

local function first_line(path)
  local file = assert(io.open(path))
  local line = file:read("l")
  file:close()
  return line
end

local function numbers_in(text)
  local list = {}
  for number in text:gmatch("%d+") do
    list[#list + 1] = tonumber(number)
  end
  return list
end

-- Ticks that all processors were at work: user, nice, system, irq, softirq.
-- (Where interrupts are not accounted apart, which is usual, a process's own
-- time holds the softirq time that interrupted it.)
local function busy_ticks()
  local n = numbers_in(first_line("/proc/stat"):match("^cpu +(.*)"))
  return n[1] + n[2] + n[3] + n[6] + n[7]
end

-- Ticks of this process and of all children that it has waited for.
local function own_ticks()
  local fields = first_line("/proc/self/stat"):match("^.*%) %a (.*)")
  local n = numbers_in((fields:gsub("%-%d+", "0")))
  return n[11] + n[12] + n[13] + n[14]
end

--- Seconds since the machine started.
function M.uptime() return tonumber(first_line("/proc/uptime"):match("^%S+")) end

local function snapshot()
  return { other = busy_ticks() - own_ticks(), seconds = M.uptime() }
end

--- Calls fn and returns its first value, and how much of a core processes that
-- are not ours used meanwhile. Everything fn starts it must have waited for.
function M.watch(fn)
  local before = snapshot()
  local value = fn()
  local after = snapshot()
  local ticks = math.max(after.other - before.other - QUIET_TICKS, 0)
  local seconds = math.max(after.seconds - before.seconds, 0.01)
  return value, ticks / TICKS_PER_SECOND / seconds
end

return M
