-- SPDX-License-Identifier: MIT
-- Moonloop inside programs in C: each program of spec/embed/ checks itself and
-- says what it did.
local command = require "spec.support.command"
local stock = require "spec.support.stock"

local function program(name)
  local status, out, err = command.run({ stock.build .. "/embed/" .. name }, { timeout = 120 })
  assert.equal("", err)
  assert.equal(0, status)
  return out
end

describe("An embedding program", function()
  it("opens, spawns, runs and closes with a loop of Moonloop's own", function()
    assert.equal(table.concat({
      "task\t1\tnil\tthree", "result\t1\tresult", "refused", "again", "run", "still a state", "",
    }, "\n"), program("own_loop"))
  end)

  it("runs tasks inside its own ev_run, which ends when they have ended", function()
    assert.equal(table.concat({
      "idle", "child", "both done", "set from outside", "the host's loop lives on", "",
    }, "\n"), program("host_loop"))
  end)

  it("turns the loop by hand, and stops it", function()
    assert.equal(table.concat({
      "parent", "child", "before", "stopped", "after", "ended", "outlived it", "",
    }, "\n"), program("step"))
  end)

  it("polls from a foreign loop by descriptor and timeout", function()
    assert.equal("slept\nreadable\nblocked\nan hour to go\n", program("poll"))
  end)

  it("posts to the loop from other threads", function()
    assert.equal("woken\nevery post ran once\nreported\tposted error\ngoes on\n", program("post"))
  end)

  it("waits in moonloop_run for what a thread will post", function()
    assert.equal("posted\ntwice\nended\n", program("post_later"))
  end)

  it("has waits that are never awaited, or never end", function()
    assert.equal("false\tcame between\nstill waits\nthe loop has ended\nclosed\n",
      program("begun"))
  end)

  it("has awaiting functions of its own", function()
    local lines = {}
    for line in program("wait"):gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.equal("false\tno running task", lines[1])
    assert.equal("value\tnil\twoken", lines[2])
    assert.equal("value\tnil\twoken", lines[3])
    assert.matches("^false\t.*the operation failed$", lines[4])
    assert.matches("^false\t.*sort", lines[5])
    assert.matches("operation 7", lines[6])
    assert.same({
      "CancelledError", "true", "still working\tfalse", "CancelledError", "CancelledError",
      "ConnectionRefusedError: connect 10.0.0.1:9: Connection refused\tECONNREFUSED\t111\ttrue",
      "closed",
    }, { table.unpack(lines, 7) })
  end)

  it("ends its state with everything pending", function()
    assert.equal(table.concat({
      "lua_close", "the host's loop is empty", "moonloop_close", "empty", "leaving", "",
    }, "\n"), program("close_pending"))
  end)

  it("closes from inside the loop when the call that drives it returns", function()
    assert.equal("run\nstep\npoll\n", program("close_inside"))
  end)

  it("is told to stop where nobody runs, and goes on", function()
    assert.equal("woke\npoll\nwoke\nstep\nwoke\nev_run\nwoke\nran\n", program("stop_foreign"))
  end)

  it("runs two states in two threads", function()
    assert.equal("both threads done\n", program("threads"))
  end)
end)
