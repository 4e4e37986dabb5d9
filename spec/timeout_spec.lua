-- SPDX-License-Identifier: MIT
-- timeout and timeout_at: what ends the block and with what, moving the deadline,
-- nested ones, one that meets a cancellation or a result in one turn, arguments.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local timeout, timeout_at = moonloop.timeout, moonloop.timeout_at
local create_task, await, Future = moonloop.create_task, moonloop.await, moonloop.Future
local sleep, sleep_forever = moonloop.sleep, moonloop.sleep_forever
local loop = moonloop.get_running_loop()

local kind = tasks.kind

local function line_of(fn, offset)
  return debug.getinfo(fn, "S").linedefined + offset
end

-- Runs `fn(timeout, ...)` in a block with a timeout.
local function within(seconds, fn, ...)
  local t <close> = timeout(seconds)
  return fn(t, ...)
end

describe("timeout", function()
  it("lets a block that ends in time go on with its values", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ "a", "b" }, { within(2, function() return sleep(1, "a"), "b" end) })
    sleep(5)
  end)

  it("ends the block with TimeoutError, in the same task", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, task, before = moonloop.time(), moonloop.current_task(), #moonloop.all_tasks()
    local ok, err = pcall(within, 2, function()
      assert.equal(task, moonloop.current_task())
      assert.equal(before, #moonloop.all_tasks())
      sleep_forever()
    end)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.equal(start + 2, moonloop.time())
    assert.equal(0, task:cancelling())
    sleep(0)
  end)

  it("says how long and where it was made, and keeps the CancelledError", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local function block()
      local _ <close> = timeout(0.05)
      sleep_forever()
    end
    local _, err = pcall(block)
    assert.matches("timed out after 0.05 s (timeout made at ", err.message, 1, true)
    assert.matches("timeout_spec.lua:" .. line_of(block, 1) .. ")", err.message, 1, true)
    assert.is_true(moonloop.is_error(err.cause, "CancelledError"))
  end)

  it("says long and short times in plain seconds", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for seconds, text in pairs { [3600] = "3600 s", [86400] = "86400 s", [0.25] = "0.25 s" } do
      local _, err = pcall(within, seconds, sleep_forever)
      assert.matches("timed out after " .. text .. " (", err.message, 1, true)
    end
  end)

  it("leaves quietly a block that ends normally all the same", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local value, expired = within(1, function(t)
      pcall(sleep_forever)
      return kind(sleep, 0), t:expired()
    end)
    assert.same({ "CancelledError", true }, { value, expired })
    sleep(0)
  end)

  it("leaves an error of the block as it is", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ false, "early" }, { pcall(within, 60, function() error("early", 0) end) })
    for _, problem in ipairs { "own", { "table" }, moonloop.OSError:new("x") } do
      local _, err = pcall(within, 1, function()
        pcall(sleep_forever)
        error(problem, 0)
      end)
      assert.equal(problem, err)
    end
  end)

  it("leaves a CancelledError that is not its own as it is", function()
    local err = moonloop.CancelledError:new("raised")
    local _, raised = pcall(within, 60, function() error(err) end)
    assert.equal(err, raised)
    local cancelled = Future()
    cancelled:cancel()
    assert.equal("CancelledError", kind(within, 60, function() cancelled:await() end))
  end)

  it("of 0 or less ends the block at its first await", function()
    for _, seconds in ipairs { 0, -1, -math.huge } do
      local reached = false
      assert.equal("TimeoutError", kind(within, seconds, function()
        reached = true
        sleep(0)
        reached = false
      end))
      assert.is_true(reached)
      assert.equal("v", within(seconds, function() return "v" end))
    end
  end)

  it("of nil or math.huge never ends it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.equal("v", within(nil, function() return sleep(1e6, "v") end))
    assert.equal("v", within(math.huge, function() return sleep(1e6, "v") end))
    local t <close> = timeout(nil)
    assert.is_nil(t:when())
    assert.is_false(t:expired())
  end)

  it("runs the block's clean-up before it raises", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local list = {}
    assert.equal("TimeoutError", kind(within, 1, function()
      local _ <close> = tasks.mark(list, "closed")
      local _ <close> = moonloop.defer(function() list[1] = sleep(5, "slept") end)
      sleep_forever()
    end))
    assert.same({ "slept", "closed" }, list)
  end)

  it("raises where no task runs", function()
    local err
    loop:call_soon(function() err = select(2, pcall(within, 1, print)) end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)

  it("is closed while its block waits", function()
    local status, out = stock.closed(
      "local _ <close> = moonloop.timeout(60); moonloop.Future():await()")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("timeout_at", function()
  it("ends the block at a time of the loop's clock", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local when = moonloop.time() + 7
    local function block()
      local t <close> = timeout_at(when)
      assert.equal(when, t:when())
      sleep_forever()
    end
    local _, err = pcall(block)
    assert.equal("TimeoutError", err.kind)
    assert.matches("timeout_spec.lua:" .. line_of(block, 1), err.message, 1, true)
    assert.equal(when, moonloop.time())
  end)

  it("of a time that has passed ends it at its first await, of nil never", function()
    local reached = false
    assert.equal("TimeoutError", kind(function()
      local _ <close> = timeout_at(moonloop.time() - 1)
      reached = true
      sleep(0)
    end))
    assert.is_true(reached)
    local t <close> = timeout_at(nil)
    assert.is_nil(t:when())
    sleep(0)
  end)
end)

describe("A timeout's reschedule", function()
  it("moves the deadline, later, sooner, away", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    assert.equal("TimeoutError", kind(within, 1, function(t)
      t:reschedule(start + 10)
      assert.equal(start + 10, t:when())
      sleep(5)
      t:reschedule(nil)
      assert.is_nil(t:when())
      sleep(95)
      t:reschedule(start + 101)
      sleep_forever()
    end))
    assert.equal(start + 101, moonloop.time())
  end)

  it("to a time that has passed ends the block at once", function()
    local reached = false
    assert.equal("TimeoutError", kind(within, nil, function(t)
      t:reschedule(moonloop.time() - 1)
      reached = true
      sleep(0)
      reached = false
    end))
    assert.is_true(reached)
  end)

  it("may come from another task, while the block waits", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local t
    local task = tasks.start(within, nil, function(own)
      t = own
      sleep_forever()
    end)
    t:reschedule(moonloop.time())
    assert.equal("TimeoutError", kind(await, task))
  end)

  it("raises InvalidStateError once it expired or was left", function()
    local left
    within(60, function(t) left = t end)
    assert.equal("InvalidStateError", kind(left.reschedule, left, moonloop.time() + 1))
    assert.equal("TimeoutError", kind(within, 0, function(t)
      assert.equal("InvalidStateError", kind(t.reschedule, t, nil))
      sleep(0)
    end))
    assert.is_false(left:expired())
  end)
end)

describe("Nested timeouts", function()
  -- Runs two, one in the other; what the inner and the outer block raised.
  local function nested(outer, inner)
    local caught
    local function block()
      local _ <close> = timeout(outer)
      local function inner_block()
        local _ <close> = timeout(inner)
        sleep_forever()
      end
      caught = select(2, pcall(inner_block))
      sleep(0)
      return caught
    end
    local ok, err = pcall(block)
    return caught, not ok and err, line_of(block, 1), line_of(block, 3)
  end

  it("end with the earlier one, which says so, where it is the inner", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    local caught, err, _, line = nested(5, 2)
    assert.equal("TimeoutError", caught.kind)
    assert.matches("timeout_spec.lua:" .. line .. ")", caught.message, 1, true)
    assert.matches("after 2 s", caught.message, 1, true)
    assert.is_false(err)
    assert.equal(start + 2, moonloop.time())
  end)

  it("end with the earlier one, which says so, where it is the outer", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    local caught, err, line = nested(2, 5)
    assert.equal("CancelledError", caught.kind)
    assert.equal("TimeoutError", err.kind)
    assert.matches("timeout_spec.lua:" .. line .. ")", err.message, 1, true)
    assert.matches("after 2 s", err.message, 1, true)
    assert.equal(start + 2, moonloop.time())
  end)

  it("end with the outer one where both are over", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local caught, err, line = nested(2, 2)
    assert.equal("CancelledError", caught.kind)
    assert.matches("timeout_spec.lua:" .. line .. ")", err.message, 1, true)
  end)

  it("end with the outer one where that comes while the inner one cleans up", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, caught = moonloop.time(), nil
    local _, err = pcall(within, 5, function()
      caught = kind(within, 2, function()
        local _ <close> = moonloop.defer(function() sleep(10) end)
        sleep_forever()
      end)
      sleep(0)
    end)
    assert.equal("CancelledError", caught)
    assert.matches("after 5 s", err.message, 1, true)
    assert.equal(start + 12, moonloop.time())
  end)

  it("may be many, of which the earliest ends all inside it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, unwound = moonloop.time(), 0
    local function nest(depth)
      if depth == 0 then sleep_forever() end
      local _ <close> = setmetatable({}, { __close = function() unwound = unwound + 1 end })
      local _ <close> = timeout(depth == 50 and 1 or 100 + depth)
      nest(depth - 1)
    end
    local _, err = pcall(nest, 150)
    assert.matches("after 1 s", err.message, 1, true)
    assert.equal(150, unwound)
    assert.equal(start + 1, moonloop.time())
  end)
end)

describe("A timeout and a cancellation", function()
  it("of the task end it with CancelledError", function()
    local task = tasks.start(within, 60, sleep_forever)
    assert.is_true(tasks.cancel(task))
  end)

  it("in one turn end the task with CancelledError, in either order", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for _, cancel_first in ipairs { true, false } do
      local when, task = moonloop.time() + 1, nil
      local function cancel() task:cancel() end
      if cancel_first then loop:call_at(when, cancel) end
      task = create_task(function()
        local _ <close> = timeout_at(when)
        if not cancel_first then loop:call_at(when, cancel) end
        sleep_forever()
      end)
      local _, err = tasks.outcome(task)
      assert.equal("CancelledError", err.kind)
      assert.is_true(task:cancelled())
    end
  end)

  it("in one turn with a result obey their order", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local function raced(set_first)
      local when, gate, list = moonloop.time() + 1, Future(), {}
      local function set() gate:set_result("item") end
      if set_first then loop:call_at(when, set) end
      list[3] = kind(function()
        local _ <close> = timeout_at(when)
        if not set_first then loop:call_at(when, set) end
        list[1] = gate:await()
        list[2] = kind(sleep, 0)
      end)
      assert.equal("item", gate:result())
      return list
    end
    assert.same({ "item", "CancelledError", false }, raced(true))
    assert.same({ [3] = "TimeoutError" }, raced(false))
  end)
end)

describe("A timeout's arguments", function()
  local function message(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_string(err)
    return err
  end

  it("are numbers or nil", function()
    for name, fn in pairs { timeout = timeout, timeout_at = timeout_at } do
      assert.matches("bad argument #1 to '" .. name .. "' %(number.*expected, got string%)",
        message(fn, "soon"))
      assert.matches("bad argument #1 to '" .. name .. "' %(number.*expected, got table%)",
        message(fn, {}))
      assert.matches("bad argument #1 to '" .. name .. "' (", message(fn, 0 / 0), 1, true)
    end
    local t <close> = timeout(60)
    assert.matches("bad argument #1 to 'reschedule' %(number.*expected, got string%)",
      message(t.reschedule, t, "soon"))
    assert.matches("bad argument #1 to 'reschedule' (", message(t.reschedule, t, 0 / 0), 1, true)
  end)

  it("leave no scope behind when they are bad", function()
    local task = tasks.start(function()
      message(timeout, "soon")
      sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
  end)
end)
