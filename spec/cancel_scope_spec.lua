-- SPDX-License-Identifier: MIT
-- CancelScope: running a function in one, cancelling it from anywhere, what
-- passes through it, its deadline.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local CancelScope, checkpoint = moonloop.CancelScope, moonloop.checkpoint
local create_task, await, Future = moonloop.create_task, moonloop.await, moonloop.Future
local sleep, sleep_forever = moonloop.sleep, moonloop.sleep_forever
local loop = moonloop.get_running_loop()

local kind = tasks.kind

local function message(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_string(err)
  return err
end

local function outside(fn, ...)
  local arguments, err = table.pack(...), nil
  loop:call_soon(function()
    err = select(2, pcall(fn, table.unpack(arguments, 1, arguments.n)))
  end)
  testing.wait_all_blocked()
  return err
end

describe("CancelScope", function()
  it("is new without deadline, shield or cancellation", function()
    for _, s in ipairs { CancelScope(), CancelScope {} } do
      assert.is_nil(s.deadline)
      assert.is_false(s.shield)
      assert.is_false(s.cancel_called)
      assert.is_false(s.cancelled_caught)
    end
    local s = CancelScope { deadline = 5, shield = true }
    assert.equal(5, s.deadline)
    assert.is_true(s.shield)
  end)

  it("says what it is in tostring", function()
    assert.matches("CancelScope", tostring(CancelScope {}), 1, true)
  end)

  it("refuses options and fields that it does not have", function()
    assert.matches("bad argument #1 to 'CancelScope'.*'dedline'.*'deadline'",
      message(CancelScope, { dedline = 1 }))
    assert.matches("bad argument #1 to 'CancelScope'.*'deadline'.*number expected, got string",
      message(CancelScope, { deadline = "soon" }))
    assert.matches("bad argument #1 to 'CancelScope'.*'shield'.*boolean expected, got number",
      message(CancelScope, { shield = 1 }))
    assert.matches("bad argument #1 to 'CancelScope'", message(CancelScope, 5), 1, true)
    local s = CancelScope {}
    assert.is_false(pcall(function() s.cancel_called = true end))
    assert.is_false(pcall(function() s.deadline = "soon" end))
    assert.is_false(s.cancel_called)
    assert.is_nil(s.deadline)
  end)
end)

describe("CancelScope:run", function()
  it("returns true and the function's values", function()
    local function values(...) return ... end
    assert.same({ true, 1, nil, 3, nil, n = 5 },
      table.pack(CancelScope {}:run(values, 1, nil, 3, nil)))
    assert.same({ true, n = 1 }, table.pack(CancelScope {}:run(values)))
    assert.same({ true, "later" }, { CancelScope {}:run(sleep, 0, "later") })
  end)

  it("runs it in the same task", function()
    assert.same({ true, moonloop.current_task() }, { CancelScope {}:run(moonloop.current_task) })
  end)

  it("raises the function's error as it is", function()
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x") } do
      local s = CancelScope {}
      local ok, err = pcall(s.run, s, function() error(problem, 0) end)
      assert.is_false(ok)
      assert.equal(problem, err)
      assert.is_false(s.cancelled_caught)
    end
  end)

  it("works once", function()
    local s = CancelScope {}
    s:run(function() end)
    assert.equal("InvalidStateError", kind(s.run, s, sleep, 0))
    local inside = CancelScope {}
    inside:run(function()
      assert.equal("InvalidStateError", kind(inside.run, inside, sleep, 0))
    end)
  end)

  it("wants a function", function()
    local s = CancelScope {}
    assert.matches("bad argument #1 to 'run' (function expected, got number)",
      message(function() s:run(5) end), 1, true)
    assert.same({ true }, { s:run(function() end) })
  end)

  it("raises where no task runs", function()
    local s = CancelScope {}
    local err = outside(s.run, s, print)
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)

  it("is closed while its function waits", function()
    local status, out = stock.closed("moonloop.CancelScope{}:run(moonloop.sleep_forever)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("CancelScope:cancel", function()
  it("from another task ends the function, and run returns false", function()
    local s, closed = CancelScope {}, {}
    local task = tasks.start(function()
      local got = table.pack(s:run(function()
        local _ <close> = tasks.mark(closed, "closed")
        sleep_forever()
      end))
      return got, sleep(0, "free")
    end)
    s:cancel()
    assert.is_true(s.cancel_called)
    assert.is_false(s.cancelled_caught)
    local got, free = await(task)
    assert.same({ false, n = 1 }, got)
    assert.equal("free", free)
    assert.same({ "closed" }, closed)
    assert.is_true(s.cancelled_caught)
    assert.equal(0, task:cancelling())
  end)

  it("from a callback of the loop and from inside does so too", function()
    local s = CancelScope {}
    loop:call_soon(s.cancel, s)
    assert.is_false(s:run(sleep_forever))
    local own, reached = CancelScope {}, false
    assert.is_false(own:run(function()
      own:cancel()
      reached = true
      sleep(0)
    end))
    assert.is_true(reached)
  end)

  it("hands its message on, the last one given", function()
    local s, messages = CancelScope {}, {}
    local task = tasks.start(function()
      s:run(function()
        for i = 1, 2 do messages[i] = select(2, pcall(sleep_forever)).message end
      end)
    end)
    s:cancel("because")
    s:cancel("really")
    await(task)
    assert.same({ "really", "really" }, messages)
  end)

  it("holds at every await until the scope is left", function()
    local s = CancelScope {}
    local count, done = 0, Future()
    done:set_result()
    local got = table.pack(s:run(function()
      s:cancel()
      for _, fn in ipairs { sleep_forever, checkpoint, function() done:await() end } do
        if kind(fn) == "CancelledError" then count = count + 1 end
      end
      return "v"
    end))
    assert.same({ true, "v", n = 2 }, got)
    assert.equal(3, count)
    assert.is_false(s.cancelled_caught)
    sleep(0)
  end)

  it("before the scope is run ends the function at its first await", function()
    local s, reached = CancelScope {}, false
    s:cancel()
    assert.is_true(s.cancel_called)
    assert.is_false(s:run(function()
      reached = true
      sleep(0)
    end))
    assert.is_true(reached)
    assert.is_true(s.cancelled_caught)
  end)

  it("after the scope was left reaches nobody", function()
    local s = CancelScope {}
    local task = tasks.start(function()
      s:run(function() end)
      return sleep(0.001, "free")
    end)
    s:cancel()
    assert.equal("free", await(task))
    assert.is_false(s.cancelled_caught)
  end)

  it("ends an inner scope's function too, which passes it on", function()
    local outer, inner = CancelScope {}, CancelScope {}
    local task = tasks.start(function()
      return outer:run(function()
        inner:run(sleep_forever)
        assert.equal("not", "reached")
      end)
    end)
    outer:cancel()
    assert.is_false(await(task))
    assert.is_true(outer.cancelled_caught)
    assert.is_false(inner.cancelled_caught)
  end)

  it("of an inner scope leaves the outer one alone", function()
    local outer, inner = CancelScope {}, CancelScope {}
    local task = tasks.start(function()
      return outer:run(function() return inner:run(sleep_forever), sleep(0, "free") end)
    end)
    inner:cancel()
    assert.same({ true, false, "free" }, { await(task) })
  end)

  it("of both, in either order, ends the outer one", function()
    for _, outer_first in ipairs { true, false } do
      local outer, inner = CancelScope {}, CancelScope {}
      local task = tasks.start(function()
        return outer:run(function() return inner:run(sleep_forever) end)
      end)
      local first, second = inner, outer
      if outer_first then first, second = outer, inner end
      first:cancel()
      second:cancel()
      assert.same({ false }, { await(task) })
      assert.is_true(outer.cancelled_caught)
    end
  end)

  it("with the task's own cancellation is the task's", function()
    local s, returned = CancelScope {}, false
    local task = tasks.start(function()
      s:run(sleep_forever)
      returned = true
    end)
    s:cancel()
    task:cancel()
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.is_false(returned)
  end)

  it("does not absorb a CancelledError raised otherwise", function()
    local s, future = CancelScope {}, Future()
    future:cancel()
    assert.equal("CancelledError", kind(s.run, s, future.await, future))
    assert.is_false(s.cancelled_caught)
  end)

  it("is not given to the tasks that were made inside", function()
    local s, child = CancelScope {}, nil
    s:run(function()
      child = create_task(sleep, 0, "child")
      s:cancel()
    end)
    assert.equal("child", await(child))
  end)

  it("in one turn with a result obeys their order", function()
    local function raced(first, second)
      local s, gate, list = CancelScope {}, Future(), {}
      local acts = {
        cancel = function() s:cancel() end,
        set = function() gate:set_result("item") end,
      }
      local task = tasks.start(function()
        list[3] = s:run(function()
          list[1] = gate:await()
          list[2] = kind(sleep, 0)
        end)
      end)
      acts[first]()
      acts[second]()
      await(task)
      assert.equal("item", gate:result())
      return list
    end
    assert.same({ "item", "CancelledError", true }, raced("set", "cancel"))
    assert.same({ [3] = false }, raced("cancel", "set"))
  end)
end)

describe("A CancelScope's deadline", function()
  it("ends the function, and run returns false", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local when = moonloop.time() + 5
    local s = CancelScope { deadline = when }
    assert.is_false(s:run(sleep_forever))
    assert.equal(when, moonloop.time())
    assert.is_true(s.cancelled_caught)
    assert.is_true(s.cancel_called)
    sleep(0)
  end)

  it("counts on the loop's clock, not from the entry", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local when = moonloop.time() + 5
    local s = CancelScope { deadline = when }
    sleep(3)
    assert.is_false(s:run(sleep_forever))
    assert.equal(when, moonloop.time())
  end)

  it("that has passed when it is entered ends it at its first await", function()
    local s, reached = CancelScope { deadline = moonloop.time() - 1 }, false
    assert.is_false(s:run(function()
      reached = true
      sleep(0)
      reached = false
    end))
    assert.is_true(reached)
    local unhurt = CancelScope { deadline = moonloop.time() - 1 }
    assert.same({ true, "v" }, { unhurt:run(function() return "v" end) })
    assert.is_false(unhurt.cancelled_caught)
  end)

  it("may be moved while the function waits, later, sooner and away", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    local s = CancelScope { deadline = start + 5 }
    local task = create_task(s.run, s, sleep_forever)
    sleep(4)
    s.deadline = start + 10
    sleep(4)
    s.deadline = nil
    assert.is_nil(s.deadline)
    sleep(4)
    assert.is_false(task:done())
    s.deadline = start + 20
    assert.is_false(await(task))
    assert.equal(start + 20, moonloop.time())
  end)

  it("moved to a time that has passed expires the scope at once", function()
    local s = CancelScope {}
    local task = tasks.start(s.run, s, sleep_forever)
    s.deadline = moonloop.time() - 1
    assert.is_true(s.cancel_called)
    assert.is_false(await(task))
    local own = CancelScope {}
    assert.is_false(own:run(function()
      own.deadline = moonloop.time()
      checkpoint()
    end))
  end)

  it("moved before the entry is the one that counts", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local when = moonloop.time() + 7
    local s = CancelScope {}
    s.deadline = when
    assert.is_false(s:run(sleep_forever))
    assert.equal(when, moonloop.time())
  end)

  it("has no effect once the scope was left", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local s = CancelScope { deadline = moonloop.time() + 1 }
    s:run(function() end)
    s.deadline = moonloop.time() + 2
    sleep(5)
    assert.is_false(s.cancelled_caught)
  end)

  it("is beaten by an earlier one around it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    local outer, inner = CancelScope { deadline = start + 1 }, CancelScope { deadline = start + 2 }
    assert.is_false(outer:run(function() inner:run(sleep_forever) end))
    assert.is_true(outer.cancelled_caught)
    assert.is_false(inner.cancelled_caught)
    assert.equal(start + 1, moonloop.time())
  end)
end)
