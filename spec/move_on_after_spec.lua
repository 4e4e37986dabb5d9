-- SPDX-License-Identifier: MIT
-- move_on_after: in time, out of time, whose cancellation ended it, both at once
-- with a result.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local move_on_after, create_task, await = moonloop.move_on_after, moonloop.create_task,
  moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local kind = tasks.kind

describe("move_on_after", function()
  it("returns true and the function's values", function()
    local function values(...) return ... end
    assert.same({ true, 1, nil, 3, nil, n = 5 },
      table.pack(move_on_after(60, values, 1, nil, 3, nil)))
    assert.same({ true, n = 1 }, table.pack(move_on_after(60, values)))
  end)

  it("returns them when they come later, in time", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ true, "v" }, { move_on_after(2, sleep, 1, "v") })
    sleep(5)
  end)

  it("returns false alone when time ran out", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, closed = moonloop.time(), {}
    local got = table.pack(move_on_after(2, function()
      local _ <close> = tasks.mark(closed, "closed")
      sleep_forever()
    end))
    assert.same({ false, n = 1 }, got)
    assert.same({ "closed" }, closed)
    assert.equal(start + 2, moonloop.time())
    sleep(0)
  end)

  it("runs the function in the same task", function()
    local task = moonloop.current_task()
    assert.same({ true, task }, { move_on_after(60, moonloop.current_task) })
  end)

  it("of 0 or less runs the function up to its first await", function()
    for _, seconds in ipairs { 0, -1, -math.huge } do
      local reached = false
      assert.is_false(move_on_after(seconds, function()
        reached = true
        sleep(0)
        reached = false
      end))
      assert.is_true(reached)
      assert.same({ true, "v" }, { move_on_after(seconds, function() return "v" end) })
    end
  end)

  it("of math.huge has no limit", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ true, "v" }, { move_on_after(math.huge, sleep, 1e6, "v") })
  end)

  it("returns what a function that swallowed the cancellation returns", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local function stubborn() return kind(sleep_forever), kind(sleep, 0) end
    assert.same({ true, "CancelledError", "CancelledError" }, { move_on_after(1, stubborn) })
    sleep(0)
  end)

  it("raises the function's error as it is, in time and after", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x") } do
      for _, wait in ipairs { sleep, sleep_forever } do
        local ok, err = pcall(move_on_after, 1, function()
          pcall(wait, 0)
          error(problem, 0)
        end)
        assert.is_false(ok)
        assert.equal(problem, err)
      end
    end
  end)

  it("raises a CancelledError that is not its own", function()
    local cancelled = Future()
    cancelled:cancel()
    assert.equal("CancelledError", kind(move_on_after, 60, cancelled.await, cancelled))
  end)

  it("waits for the clean-up of what it ends", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    assert.is_false(move_on_after(1, function()
      local _ <close> = moonloop.defer(function() sleep(5) end)
      sleep_forever()
    end))
    assert.equal(start + 6, moonloop.time())
  end)

  it("raises where no task runs", function()
    local err
    loop:call_soon(function() err = select(2, pcall(move_on_after, 1, print)) end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)
end)

describe("A cancelled move_on_after", function()
  it("raises CancelledError", function()
    local task = tasks.start(move_on_after, 60, sleep_forever)
    task:cancel("because")
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
  end)

  it("raises it also when time runs out in the same turn", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for _, cancel_first in ipairs { true, false } do
      local task, returned
      local when = moonloop.time() + 1
      if cancel_first then loop:call_at(when, function() task:cancel() end) end
      task = create_task(function()
        move_on_after(1, function()
          if not cancel_first then loop:call_at(when, function() task:cancel() end) end
          sleep_forever()
        end)
        returned = true
      end)
      tasks.outcome(task)
      assert.is_true(task:cancelled())
      assert.is_nil(returned)
    end
  end)

  it("raises at the first await in a scope that is cancelled already", function()
    local got
    local task = tasks.start(function()
      pcall(sleep_forever)
      got = { kind(move_on_after, 60, sleep, 0), kind(move_on_after, 0, sleep, 0) }
    end)
    task:cancel()
    tasks.outcome(task)
    assert.same({ "CancelledError", "CancelledError" }, got)
  end)

  it("is ended by the outer one of two that are over", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    assert.is_false(move_on_after(1, function()
      move_on_after(2, sleep_forever)
      assert.equal("not", "reached")
    end))
    assert.equal(start + 1, moonloop.time())
    assert.same({ true, false }, { move_on_after(3, move_on_after, 2, sleep_forever) })
    assert.equal(start + 3, moonloop.time())
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.move_on_after(60, moonloop.sleep_forever)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("move_on_after whose result and deadline come in one turn", function()
  local function raced(set_first)
    local gate, when = Future(), moonloop.time() + 1
    local function set() gate:set_result("item") end
    if set_first then loop:call_at(when, set) end
    return { move_on_after(1, function()
      if not set_first then loop:call_at(when, set) end
      return gate:await(), kind(sleep, 0)
    end) }, gate
  end

  it("returns a result that came first, and the cancellation follows", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ true, "item", "CancelledError" }, (raced(true)))
  end)

  it("returns false where the deadline came first, the result stays where it is", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local got, gate = raced(false)
    assert.same({ false }, got)
    assert.equal("item", await(gate))
  end)
end)

describe("move_on_after's arguments", function()
  local function message(...)
    local ok, err = pcall(move_on_after, ...)
    assert.is_false(ok)
    assert.is_string(err)
    return err
  end

  it("are a number and a function", function()
    assert.matches("bad argument #1 to 'move_on_after' %(number expected, got n",
      message(nil, print))
    assert.matches("bad argument #1 to 'move_on_after' (number expected, got string)",
      message("soon", print), 1, true)
    assert.matches("bad argument #1 to 'move_on_after' (", message(0 / 0, print), 1, true)
    assert.matches("bad argument #2 to 'move_on_after' (function expected, got ",
      message(1), 1, true)
    assert.matches("bad argument #2 to 'move_on_after' (function expected, got number)",
      message(1, 5), 1, true)
  end)
end)
