-- SPDX-License-Identifier: MIT
-- Holding cancellation back: `shield`, CancelScope{shield=true}; and taking it:
-- `checkpoint`.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local CancelScope, shield, checkpoint = moonloop.CancelScope, moonloop.shield, moonloop.checkpoint
local create_task, await, Future = moonloop.create_task, moonloop.await, moonloop.Future
local sleep, sleep_forever = moonloop.sleep, moonloop.sleep_forever
local loop = moonloop.get_running_loop()

local kind = tasks.kind

local function outside(fn, ...)
  local arguments, err = table.pack(...), nil
  loop:call_soon(function()
    err = select(2, pcall(fn, table.unpack(arguments, 1, arguments.n)))
  end)
  testing.wait_all_blocked()
  return err
end

describe("shield", function()
  it("runs the function in the same task and returns its values", function()
    local function values(...) return ... end
    assert.same({ 1, nil, 3, nil, n = 4 }, table.pack(shield(values, 1, nil, 3, nil)))
    assert.equal(moonloop.current_task(), shield(moonloop.current_task))
    assert.equal("later", shield(sleep, 0, "later"))
  end)

  it("raises the function's error as it is", function()
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x") } do
      local ok, err = pcall(shield, function() error(problem, 0) end)
      assert.is_false(ok)
      assert.equal(problem, err)
    end
  end)

  it("holds a cancellation back until the next await after it", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      list[1] = shield(gate.await, gate)
      list[2] = "after"
      list[3] = kind(checkpoint)
    end)
    task:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({ "item", "after", "CancelledError" }, list)
  end)

  it("runs also where the task is cancelled already: clean-up may await", function()
    local list = {}
    local task = tasks.start(function()
      local ok, err = pcall(sleep_forever)
      list[1] = ok
      list[2] = shield(sleep, 0.001, "cleaned up")
      error(err)
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ false, "cleaned up" }, list)
  end)

  it("holds back every cancellation and deadline outside it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, got = moonloop.time(), nil
    local function block()
      local _ <close> = moonloop.timeout(1)
      local _ <close> = moonloop.timeout(2)
      got = shield(sleep, 10, "slept")
      sleep(0)
    end
    local _, err = pcall(block)
    assert.equal("slept", got)
    assert.equal(start + 10, moonloop.time())
    assert.equal("TimeoutError", err.kind)
    assert.matches("after 1 s", err.message, 1, true)
  end)

  it("holds back nothing of what is inside it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.is_false(shield(moonloop.move_on_after, 1, sleep_forever))
    assert.equal("TimeoutError", kind(shield, function()
      local _ <close> = moonloop.timeout(1)
      sleep_forever()
    end))
    local s = CancelScope {}
    loop:call_soon(s.cancel, s)
    assert.is_false(shield(s.run, s, sleep_forever))
  end)

  it("lets a deadline inside it be met in a cancelled task", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local got
    local task = create_task(function()
      pcall(sleep_forever)
      got = {
        shield(moonloop.move_on_after, 1, sleep_forever),
        kind(shield, function()
          local _ <close> = moonloop.timeout(1)
          sleep_forever()
        end),
        kind(checkpoint),
      }
    end)
    sleep(0)
    task:cancel()
    tasks.outcome(task)
    assert.same({ false, "TimeoutError", "CancelledError" }, got)
  end)

  it("works nested", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      shield(function()
        list[1] = shield(gate.await, gate)
        list[2] = kind(sleep, 0)
      end)
      list[3] = kind(sleep, 0)
    end)
    task:cancel()
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({ "item", false, "CancelledError" }, list)
  end)

  it("leaves a CancelledError of the function's own as it is", function()
    local cancelled = Future()
    cancelled:cancel()
    assert.equal("CancelledError", kind(shield, cancelled.await, cancelled))
  end)

  it("keeps a cancellation back in a generator only while that runs", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      local gen = coroutine.wrap(function()
        shield(function()
          list[1] = gate:await()
          coroutine.yield()
          list[3] = kind(sleep, 0)
        end)
      end)
      gen()
      list[2] = kind(sleep, 0)
      gen()
    end)
    task:cancel()
    testing.wait_all_blocked()
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({ "item", "CancelledError", false }, list)
  end)

  it("takes a function, for a waiter's cancellation leaves a task alone", function()
    for _, aw in ipairs { Future(), create_task(sleep, 0) } do
      local ok, err = pcall(shield, aw)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'shield' (", err, 1, true)
      assert.matches("cancel.*leaves it alone", err)
    end
    local ok, err = pcall(shield, 5)
    assert.is_false(ok)
    assert.matches("bad argument #1 to 'shield' (function expected, got number)", err, 1, true)
  end)

  it("raises where no task runs", function()
    local err = outside(shield, print)
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)

  it("is closed while its function waits", function()
    local status, out = stock.closed("moonloop.shield(moonloop.sleep_forever)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("A CancelScope that is a shield", function()
  it("holds back a cancellation from outside", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      list[1] = { CancelScope { shield = true }:run(gate.await, gate) }
      list[2] = kind(sleep, 0)
    end)
    task:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({ { true, "item" }, "CancelledError" }, list)
  end)

  it("ends by its own cancellation, with that of outside held back", function()
    local s, reached = CancelScope { shield = true }, false
    local task = tasks.start(function()
      s:run(sleep_forever)
      sleep(0)
      reached = true
    end)
    task:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    s:cancel()
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.is_false(reached)
  end)

  it("is bounded by its deadline", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, left = moonloop.time(), nil
    local task = tasks.start(function()
      local _ <close> = setmetatable({}, { __close = function()
        local s = CancelScope { shield = true, deadline = moonloop.time() + 3 }
        pcall(s.run, s, sleep_forever)
        left = moonloop.time()
      end })
      sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
    assert.equal(start + 3, left)
  end)
end)

describe("checkpoint", function()
  it("lets every ready task run once", function()
    local list = {}
    local function step(name)
      for i = 1, 2 do
        list[#list + 1] = name .. i
        checkpoint()
      end
    end
    create_task(step, "a")
    create_task(step, "b")
    checkpoint()
    assert.same({ "a1", "b1" }, list)
    checkpoint()
    assert.same({ "a1", "b1", "a2", "b2" }, list)
    testing.wait_all_blocked()
  end)

  it("returns nothing", function()
    assert.is_nil((checkpoint()))
  end)

  it("takes a cancellation that is there already", function()
    local task, reached
    task = create_task(function()
      task:cancel("because")
      reached = true
      checkpoint()
      reached = false
    end)
    local _, err = tasks.outcome(task)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.is_true(reached)
  end)

  it("takes a cancellation that comes while others run", function()
    local task
    task = create_task(function()
      create_task(function() task:cancel() end)
      checkpoint()
    end)
    tasks.outcome(task)
    assert.is_true(task:cancelled())
  end)

  it("takes a deadline that has passed", function()
    assert.is_false(moonloop.move_on_after(0, checkpoint))
  end)

  it("raises where no task runs", function()
    local err = outside(checkpoint)
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)

  it("lets timers have their turn", function()
    local fired = false
    loop:call_later(0, function() fired = true end)
    local count = 0
    while not fired and count < 1e6 do
      checkpoint()
      count = count + 1
    end
    assert.is_true(fired)
  end)
end)

describe("Many scopes", function()
  it("inside each other are all ended by the outermost", function()
    local outer, ended = CancelScope {}, 0
    local function nest(depth)
      local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
      if depth == 0 then return sleep_forever() end
      CancelScope {}:run(nest, depth - 1)
    end
    local task = tasks.start(function() return outer:run(nest, 50) end)
    outer:cancel()
    assert.is_false(await(task))
    assert.equal(51, ended)
  end)

  it("beside each other are cancelled each by itself", function()
    local N = 10000
    local list, scopes, ended = {}, {}, 0
    for i = 1, N do
      scopes[i] = CancelScope {}
      list[i] = create_task(function()
        if not scopes[i]:run(sleep_forever) then ended = ended + 1 end
      end)
    end
    testing.wait_all_blocked()
    for i = 1, N, 2 do scopes[i]:cancel() end
    testing.wait_all_blocked()
    assert.equal(N // 2, ended)
    for i = 2, N, 2 do scopes[i]:cancel() end
    for _, task in ipairs(list) do await(task) end
    assert.equal(N, ended)
  end)
end)
