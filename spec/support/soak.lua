-- SPDX-License-Identifier: MIT
-- What the soak programs share: the server in a process of its own, plans that follow from a seed,
-- what a process holds (descriptors, tasks, memory), and the verdict.
local moonloop = require "moonloop"

local M = {}

local ADDRESSES = 16 -- 127.0.0.1 and on
local HIGHEST = 12000 -- descriptor that is looked for
local PATIENCE = 20 -- seconds that the connections of a round may take to end

-- ---- random plans --------------------------------------------------------------

local Random = {}
Random.__index = Random
Random.__name = "Random"

--- An integer from `least` to `most`. (splitmix64: a plan depends on its seed alone.)
function Random:integer(least, most)
  self.state = self.state + 0x9E3779B97F4A7C15
  local z = self.state
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  return least + ((z ~ (z >> 31)) >> 1) % (most - least + 1)
end

--- One of the names in `shares`, a list of {name, percent}; the last one has the rest.
function Random:choose(shares)
  local at = self:integer(1, 100)
  for _, share in ipairs(shares) do
    at = at - share[2]
    if at <= 0 then return share[1] end
  end
  return shares[#shares][1]
end

--- A generator of its own for the thing of that number.
function M.random(seed, number)
  return setmetatable({ state = (seed << 32) ~ (number * 0x2545F4914F6CDD1D) }, Random)
end

-- Text in which any 16 bytes stand at one place only.
local function make_text(size)
  local random, parts = M.random(1, 1), {}
  for i = 1, size // 8 do parts[i] = string.pack("<i8", random:integer(0, math.maxinteger)) end
  return table.concat(parts)
end

local TEXT = make_text(1024 * 1024)

--- `size` bytes that another place of the text is unlikely to have.
function Random:payload(size)
  local first = self:integer(1, #TEXT - size)
  return TEXT:sub(first, first + size - 1)
end

-- ---- what a process holds ------------------------------------------------------

local function status_kib(field)
  local file <close> = assert(io.open("/proc/self/status"))
  return math.tointeger(tonumber(file:read("a"):match(field .. ":%s*(%d+) kB")))
end

-- (A listing of /proc/self/fd by a child would count what starting the child takes.)
local function descriptors()
  local count = 0
  for number = 0, HIGHEST do
    local file = io.open("/proc/self/fdinfo/" .. number)
    if file then
      count = count + 1
      file:close()
    end
  end
  return count
end

--- What this process holds now: `descriptors`, `tasks`, `leaks` since the mark of
-- testing.mark, `memory` (resident, KiB), `heap` (Lua's part of it, KiB).
function M.holdings(mark)
  collectgarbage()
  collectgarbage()
  local heap = collectgarbage("count") // 1 | 0
  return {
    heap = heap, memory = status_kib("VmRSS"), descriptors = descriptors(),
    tasks = #moonloop.all_tasks(), leaks = #moonloop.testing.leaks(mark),
  }
end

--- Raises unless this process may have so many descriptors.
function M.need_descriptors(count)
  local file <close> = assert(io.open("/proc/self/limits"))
  local limit = file:read("a"):match("Max open files%s+(%S+)")
  if limit == "unlimited" or tonumber(limit) >= count then return end
  error(("%d descriptors are needed, and the limit is %s: see ulimit -n"):format(count, limit), 0)
end

--- Waits until `fn()` is true, for a time. Awaits.
function M.wait_until(fn)
  local deadline = moonloop.time() + PATIENCE
  while not fn() and moonloop.time() < deadline do moonloop.sleep(0.01) end
end

--- Whether an error says that the other end is gone.
function M.is_gone(err)
  return moonloop.is_error(err, "ConnectionError") or moonloop.is_error(err, "IncompleteReadError")
end

-- ---- the server ----------------------------------------------------------------

local Server = {}
Server.__index = Server
Server.__name = "SoakServer"

--- Connects to the server, and counts that. Awaits.
-- @param random chooses one of several local addresses, each of which has its own ports
-- @param rude whether to connect to the port where nobody is served
function Server:connect(random, rude)
  local host = "127.0.0." .. random:integer(1, ADDRESSES)
  local ok, stream = moonloop.pcall(moonloop.connect, host, rude and self.rude_port or self.port)
  if ok or moonloop.is_error(stream, "ConnectionResetError") then
    self.connected = self.connected + 1
  end
  if ok then return stream end
  error(stream, 0)
end

--- Asks the server for what it has and holds. Awaits.
-- @param at_once whether not to wait until it has served all that was connected, and
-- that has ended (or does not end)
-- @return a table of numbers
function Server:ask(at_once)
  self.control:write(at_once and 0 or self.connected, "\n")
  local answer = {}
  for name, number in self.control:readline():gmatch("(%w+)=(%d+)") do
    answer[name] = math.tointeger(tonumber(number))
  end
  return answer
end

--- Ends the server. Awaits.
-- @return whether it ended well
function Server:stop()
  self.control:close()
  self.control:wait_closed()
  return (self.pipe:close())
end

--- Starts spec/soak/server.lua. Awaits.
-- @return a table with `port`, and `rude_port`, where nobody is served
function M.start_server(binary)
  local pipe = assert(io.popen("exec " .. binary .. " spec/soak/server.lua"))
  local self = setmetatable({ pipe = pipe, connected = 0 }, Server)
  self.port, self.rude_port = pipe:read("n", "n")
  self.control = moonloop.connect("127.0.0.1", pipe:read("n"))
  return self
end

-- ---- the verdict ---------------------------------------------------------------

local Verdict = {}
Verdict.__index = Verdict
Verdict.__name = "Verdict"

--- Tells a failure, the first few in full.
function Verdict:fail(form, ...)
  self.failures = self.failures + 1
  if self.failures <= 10 then io.stderr:write("FAILED: ", form:format(...), "\n") end
end

--- Fails unless the two are equal.
function Verdict:equal(expected, got, what)
  if expected ~= got then self:fail("%s: %s expected, got %s", what, expected, got) end
end

--- Fails when a process holds more descriptors or tasks than it did at first, or leaks.
function Verdict:holds(who, first, now)
  for _, name in ipairs { "descriptors", "tasks" } do
    self:equal(first[name], now[name], who .. ": " .. name)
  end
  self:equal(0, now.leaks, who .. ": leaks")
end

-- The least of a field of list[first] to list[last].
local function least(list, field, first, last)
  local value = math.huge
  for i = first, last do value = math.min(value, list[i][field]) end
  return value
end

--- Fails when memory grows from round to round. The system's share swings with where
-- long strings happened to lie, so the least of several rounds counts.
-- @param list holdings after each round; the first two, which bring in buffers, don't count
-- @param bounds `memory` and `heap`: KiB by which these may have grown from the first
-- half of the others to the last
function Verdict:flat(who, list, bounds)
  local half = (#list - 2) // 2
  for name, bound in pairs(bounds) do
    local before = least(list, name, 3, 2 + half)
    local after = least(list, name, #list - half + 1, #list)
    if after > before + bound then
      self:fail("%s: %s grew from %d to %d KiB, by more than %d", who, name, before, after, bound)
    end
  end
end

--- Says how it ended, and ends the program.
function Verdict:finish(what, bounds)
  print(("%s: %s (memory may grow by %d KiB, Lua's part by %d)"):format(what,
    self.failures == 0 and "ok" or self.failures .. " failures", bounds.memory, bounds.heap))
  moonloop.exit(self.failures == 0 and 0 or 1)
end

function M.verdict()
  return setmetatable({ failures = 0 }, Verdict)
end

-- ---- a program -----------------------------------------------------------------

-- After a round: nothing is open that was not, nothing was lost on the way.
local function check(program, server, mark, rounds)
  local verdict = program.verdict
  moonloop.testing.wait_all_blocked()
  local ours, theirs = M.holdings(mark), server:ask()
  table.insert(rounds.ours, ours)
  table.insert(rounds.theirs, theirs)
  verdict:equal(server.connected, theirs.served, "connections that the server has served")
  verdict:equal(0, theirs.open, "connections that the server has open")
  verdict:equal(0, theirs.errors, "errors in the server")
  verdict:equal(program.echoed(), theirs.echoed, "bytes that the server echoed")
  verdict:holds("client", rounds.ours[1], ours)
  verdict:holds("server", rounds.theirs[1], theirs)
  return ours, theirs
end

local function run_rounds(program)
  local _ <close> = moonloop.timeout(program.longest)
  local server = M.start_server(os.getenv("MOONLOOP") or arg[-1])
  local mark, rounds = moonloop.testing.mark(), { ours = {}, theirs = {} }
  for number = 1, program.rounds do
    local began = moonloop.time()
    local what = program.round(server, number)
    local took = moonloop.time() - began
    local ours, theirs = check(program, server, mark, rounds)
    print(("%s, round %d of %d: %s, %.1f s, %.1f MiB echoed so far; client: %s; server: %s")
      :format(program.name, number, program.rounds, what, took, program.echoed() / 2^20,
        M.words(ours), M.words(theirs)))
  end
  program.verdict:flat("client", rounds.ours, program.bounds)
  program.verdict:flat("server", rounds.theirs, program.bounds)
  if not server:stop() then program.verdict:fail("the server ended badly") end
end

--- Runs a soak program to its end, which ends the process. Awaits.
-- @param program table: `name`, `rounds`, `longest` (seconds), `bounds` (see
-- Verdict:flat), `verdict`, `descriptors` (that it needs), `echoed()` (bytes so far),
-- `round(server, number)`, which gives in words what the round was
function M.run(program)
  local ok, err = pcall(function()
    if program.descriptors then M.need_descriptors(program.descriptors) end
    run_rounds(program)
  end)
  if not ok then program.verdict:fail("%s", tostring(err)) end
  program.verdict:finish(program.name, program.bounds)
end

--- What a process holds, in words.
function M.words(holdings)
  return ("%d descriptors, %d tasks, %.1f MiB (%d KiB in Lua)"):format(holdings.descriptors,
    holdings.tasks, holdings.memory / 1024, holdings.heap)
end

return M
