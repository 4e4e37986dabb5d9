-- SPDX-License-Identifier: MIT
-- wrap: a callback API as an await. Who may settle it and when, what its function
-- returns, cancellation, and both at once.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local wrap, create_task, await = moonloop.wrap, moonloop.create_task, moonloop.await
local sleep, sleep_forever = moonloop.sleep, moonloop.sleep_forever
local loop = moonloop.get_running_loop()

local kind = tasks.kind

-- Starts a wrap in a task: the task, resolve, reject, and how often what it
-- returned was called.
local function started()
  local resolve, reject
  local calls = { n = 0 }
  local task = tasks.start(wrap, function(...)
    resolve, reject = ...
    return function() calls.n = calls.n + 1 end
  end)
  return task, resolve, reject, calls
end

describe("wrap", function()
  it("returns what is resolved later", function()
    local values = table.pack(wrap(function(resolve)
      loop:call_soon(resolve, 1, nil, 3, nil)
    end))
    assert.same({ 1, nil, 3, nil, n = 4 }, values)
    assert.equal(0, select("#", wrap(function(resolve) loop:call_soon(resolve) end)))
  end)

  it("returns what is resolved at once, without letting others run", function()
    local task = create_task(function()
      local ran = false
      create_task(function() ran = true end)
      local values = table.pack(wrap(function(resolve) resolve("v", nil) end))
      return values, ran
    end)
    local values, ran = await(task)
    assert.same({ "v", nil, n = 2 }, values)
    assert.is_false(ran)
  end)

  it("lets others run in between though it is resolved at once each time", function()
    local ran = 0
    local task = create_task(function()
      while true do
        sleep(0)
        ran = ran + 1
      end
    end)
    for _ = 1, 10000 do wrap(function(resolve) resolve() end) end
    assert.is_true(ran > 10)
    assert.is_true(tasks.cancel(task))
  end)

  it("raises what is rejected, at once or later, as it is", function()
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x"), false } do
      local ok, err = pcall(wrap, function(_, reject) reject(problem) end)
      assert.is_false(ok)
      assert.equal(problem, err)
      ok, err = pcall(wrap, function(_, reject) loop:call_soon(reject, problem) end)
      assert.is_false(ok)
      assert.equal(problem, err)
    end
    assert.same({ false, n = 2 }, table.pack(pcall(wrap, function(_, reject) reject(nil) end)))
    assert.same({ false, n = 2 }, table.pack(pcall(wrap, function(_, reject)
      loop:call_soon(reject, nil)
    end)))
  end)

  it("takes the first answer and ignores later ones", function()
    for _, later in ipairs { true, false } do
      local function both(one, other)
        if later then
          loop:call_soon(one, "first")
          loop:call_soon(other, "second")
        else
          one("first")
          other("second")
        end
      end
      assert.equal("first", wrap(function(resolve, reject) both(resolve, reject) end))
      assert.equal("first", wrap(function(resolve) both(resolve, resolve) end))
      local _, err = pcall(wrap, function(resolve, reject) both(reject, resolve) end)
      assert.equal("first", err)
      sleep(0)
    end
  end)

  it("may be answered by another task", function()
    local task, resolve = started()
    await(create_task(resolve, "v"))
    assert.equal("v", await(task))
  end)

  it("runs its function once, in the calling task", function()
    local count, inside = 0, nil
    local task = create_task(function()
      wrap(function(resolve)
        count = count + 1
        inside = moonloop.current_task()
        loop:call_soon(resolve)
      end)
    end)
    await(task)
    assert.equal(1, count)
    assert.equal(task, inside)
  end)

  it("raises its function's own error as it is", function()
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x") } do
      local ok, err = pcall(wrap, function() error(problem, 0) end)
      assert.is_false(ok)
      assert.equal(problem, err)
    end
  end)

  it("lets its function await before it answers", function()
    assert.equal("v", wrap(function(resolve) resolve(sleep(0, "v")) end))
    assert.equal("early", wrap(function(resolve)
      loop:call_soon(resolve, "early")
      sleep(0)
      sleep(0)
    end))
  end)

  it("is not disturbed by answers after its end", function()
    local task, resolve, reject = started()
    resolve("v")
    assert.equal("v", await(task))
    resolve("again")
    reject("late")
    testing.wait_all_blocked()
    assert.equal("v", task:result())
    local gone, late = started()
    assert.is_true(tasks.cancel(gone))
    late("late")
    testing.wait_all_blocked()
    assert.is_true(gone:cancelled())
  end)

  it("is not woken by an answer to an earlier one", function()
    local first
    local task = tasks.start(function()
      pcall(wrap, function(resolve)
        first = resolve
        resolve("one")
      end)
      return wrap(function(resolve) loop:call_later(0.001, resolve, "two") end)
    end)
    first("again")
    assert.equal("two", await(task))
  end)

  it("works in a generator", function()
    local gen = coroutine.wrap(function()
      for i = 1, 2 do
        coroutine.yield((wrap(function(resolve) loop:call_soon(resolve, i) end)))
      end
    end)
    assert.same({ 1, 2 }, { gen(), gen() })
  end)

  it("raises where no task runs, and runs nothing", function()
    local ran, err = false, nil
    loop:call_soon(function()
      err = select(2, pcall(wrap, function() ran = true end))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
    assert.is_false(ran)
  end)

  it("takes a function", function()
    for value, name in pairs { [5] = "number", x = "string", [true] = "boolean" } do
      local ok, err = pcall(wrap, value)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'wrap' (function expected, got " .. name .. ")", err, 1,
        true)
    end
    assert.matches("bad argument #1 to 'wrap' (function expected, got ",
      select(2, pcall(wrap)), 1, true)
  end)
end)

describe("What a wrap's function returns", function()
  it("is called once when the wait is cancelled", function()
    local task, _, _, calls = started()
    task:cancel("because")
    task:cancel("because")
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.equal(1, calls.n)
  end)

  it("is called when time runs out", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local calls = 0
    local function block()
      local _ <close> = moonloop.timeout(1)
      wrap(function()
        return function() calls = calls + 1 end
      end)
    end
    assert.equal("TimeoutError", kind(block))
    assert.equal(1, calls)
  end)

  it("is not called when it was resolved or rejected", function()
    for i = 2, 3 do
      local list = { started() }
      list[i]("x")
      assert.same({ i == 2, "x" }, { tasks.outcome(list[1]) })
      assert.equal(0, list[4].n)
    end
    local called = false
    local function mark() called = true end
    wrap(function(resolve)
      resolve()
      return mark
    end)
    pcall(wrap, function(_, reject)
      reject("x")
      return mark
    end)
    assert.is_false(called)
  end)

  it("may await, shielded", function()
    local list = {}
    local task = tasks.start(wrap, function()
      return function()
        sleep(0)
        list[1] = "undone"
      end
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ "undone" }, list)
  end)

  it("may be nothing", function()
    assert.is_true(tasks.cancel(tasks.start(wrap, function() end)))
  end)

  it("is called when nothing could answer any more", function()
    local status, out, err = stock.moonloop([[
      local moonloop = require "moonloop"
      local ok, err = pcall(moonloop.wrap, function()
        return function() print("called") end
      end)
      print(ok, err.kind)
    ]])
    assert.equal("", err)
    assert.equal("called\nfalse\tDeadlockError\n", out)
    assert.equal(0, status)
  end)

  it("is called when the task is closed while it waits", function()
    local status, out = stock.closed([[
      moonloop.wrap(function() return function() print("called") end end)
    ]])
    assert.equal("waiting\ncalled\nclosed\nafter true\n", out)
    assert.equal(0, status)
  end)

  it("is nothing where the wait is closed without it", function()
    local status, out = stock.closed("moonloop.wrap(function() end)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("wrap whose answer and cancellation come in one turn", function()
  -- Does `acts` to a wrap; what it gave, what the next await raised, how often
  -- the returned function was called.
  local function raced(...)
    local seen = { calls = 0 }
    local task, settle
    local acts = {
      resolve = function() settle.resolve("item") end,
      reject = function() settle.reject("problem") end,
      cancel = function() task:cancel() end,
    }
    task = tasks.start(function()
      seen.ok, seen.value = pcall(wrap, function(resolve, reject)
        settle = { resolve = resolve, reject = reject }
        return function() seen.calls = seen.calls + 1 end
      end)
      seen.after = kind(sleep, 0)
    end)
    for _, act in ipairs { ... } do acts[act]() end
    tasks.outcome(task)
    return seen
  end

  it("returns an answer that came first, the cancellation follows", function()
    assert.same({ ok = true, value = "item", after = "CancelledError", calls = 0 },
      raced("resolve", "cancel"))
    assert.same({ ok = false, value = "problem", after = "CancelledError", calls = 0 },
      raced("reject", "cancel"))
  end)

  it("raises a cancellation that came first, and calls what was returned", function()
    for _, act in ipairs { "resolve", "reject" } do
      local seen = raced("cancel", act)
      assert.is_false(seen.ok)
      assert.equal("CancelledError", seen.value.kind)
      assert.equal("CancelledError", seen.after)
      assert.equal(1, seen.calls)
    end
  end)

  it("obeys the order of a deadline and an answer of the same time", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local function timed(answer_first)
      local when, calls, resolve = moonloop.time() + 1, 0, nil
      local function answer() resolve("item") end
      if answer_first then loop:call_at(when, answer) end
      local ok, value = moonloop.move_on_after(1, function()
        if not answer_first then loop:call_at(when, answer) end
        return wrap(function(given)
          resolve = given
          return function() calls = calls + 1 end
        end)
      end)
      return ok, value, calls
    end
    assert.same({ true, "item", 0 }, { timed(true) })
    assert.same({ false, nil, 1, n = 3 }, table.pack(timed(false)))
  end)

  it("raises in a scope that is cancelled already, and does not run its function", function()
    local got
    local ran = false
    local task = tasks.start(function()
      pcall(sleep_forever)
      got = kind(wrap, function(resolve)
        ran = true
        resolve("v")
      end)
    end)
    task:cancel()
    tasks.outcome(task)
    assert.equal("CancelledError", got)
    assert.is_false(ran)
  end)
end)

describe("Ten thousand wraps", function()
  it("are each answered or cancelled, once", function()
    local N = 10000
    local list, got, calls = {}, 0, 0
    local resolves = {}
    for i = 1, N do
      list[i] = create_task(function()
        local value = wrap(function(resolve)
          resolves[i] = resolve
          return function() calls = calls + 1 end
        end)
        got = got + value
      end)
    end
    testing.wait_all_blocked()
    for i = 1, N do
      if i % 2 == 0 then resolves[i](1) else list[i]:cancel() end
    end
    for _, task in ipairs(list) do tasks.outcome(task) end
    assert.same({ N // 2, N // 2 }, { got, calls })
  end)
end)
