-- SPDX-License-Identifier: MIT
-- The master of a pty that is written to while no program has the other side: the system takes no
-- more at some time, and calls the descriptor ready for ever.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"

local LINE <const> = ("x"):rep(99) .. "\n"
local LINES <const> = 2000
local TURNS <const> = 200

-- How many times this process has written so far, or tried to.
local function writes_so_far()
  for line in io.lines("/proc/self/io") do
    local count = line:match("^syscw: (%d+)")
    if count then return math.tointeger(tonumber(count)) end
  end
end

-- How many times it does so in some turns of the loop; valgrind writes something at each. Awaits.
local function count_writes()
  local before = writes_so_far()
  for _ = 1, TURNS do moonloop.testing.wait_all_blocked() end
  return writes_so_far() - before
end

-- A master that nobody is left to read, and a task that writes LINES to it. Awaits.
local function abandoned()
  local master, slave = moonloop.open_pty()
  local program <close> = io.popen(("stty raw -echo <%s"):format(slave))
  program:close()
  local task = tasks.start(function()
    for _ = 1, LINES do master:write(LINE) end
  end)
  assert(not task:done(), "the terminal takes everything")
  return master, slave, task
end

describe("The master of a pty that no program has", function()
  it("is not written to again and again while it takes nothing", function()
    local idle = count_writes()
    local master, _, task = abandoned()
    assert.is_true(count_writes() - idle < TURNS // 2)
    assert.is_true(tasks.cancel(task))
    master:abort()
  end)

  it("goes on when a program reads again", function()
    local master, slave, task = abandoned()
    local terminal <close> = moonloop.connect_read_pipe(assert(io.open(slave, "rb")))
    for _ = 1, LINES do assert.equal(LINE, terminal:readline()) end
    task:await()
    master:abort()
  end)

  it("lets its writer be cancelled, and itself be closed", function()
    local master, _, task = abandoned()
    assert.is_true(tasks.cancel(task))
    local closing = tasks.start(function()
      master:close()
      master:wait_closed()
    end)
    assert.is_false(closing:done())
    master:abort()
    closing:await()
    assert.equal(-1, master:fileno())
  end)
end)
