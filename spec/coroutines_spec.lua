-- SPDX-License-Identifier: MIT
-- Awaits in inner coroutines: generators, wrap, resume, status, nesting.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function counter(n, wait)
  return coroutine.wrap(function()
    for i = 1, n do
      wait(i)
      coroutine.yield(i)
    end
  end)
end

local function collect(iterator)
  local got = {}
  for value in iterator do got[#got + 1] = value end
  return got
end

local function nap() moonloop.sleep(0) end

describe("A generator", function()
  it("awaits what is ready at once", function()
    local ready = moonloop.Future()
    ready:set_result("v")
    assert.same({ 1, 2, 3 }, collect(counter(3, function() assert.equal("v", ready:await()) end)))
  end)

  it("awaits what is ready later, between its values", function()
    assert.same({ 1, 2, 3 }, collect(counter(3, nap)))
    local later = moonloop.Future()
    local task = tasks.start(function()
      return collect(counter(2, function() later:await() end))
    end)
    assert.is_false(task:done())
    later:set_result()
    assert.same({ 1, 2 }, moonloop.await(task))
  end)

  it("is cancelled at the await it is in", function()
    local list = {}
    local task = tasks.start(function()
      for _ in counter(1, function()
        local _ <close> = tasks.mark(list, "generator")
        local ok, err = pcall(moonloop.sleep_forever)
        list[#list + 1] = not ok and err.kind
        error(err)
      end) do list[#list + 1] = "value" end
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ "CancelledError", "generator" }, list)
  end)

  it("is closed with its task while it waits, the innermost first", function()
    local status, out = stock.closed([[
      moonloop.patch_coroutines()
      local function mark(what)
        return setmetatable({}, {__close = function() print(what) end})
      end
      coroutine.wrap(function()
        local _ <close> = mark("outer")
        coroutine.wrap(function()
          local _ <close> = mark("inner")
          moonloop.sleep_forever()
        end)()
      end)()
    ]])
    assert.equal(0, status)
    assert.equal("waiting\ninner\nouter\nclosed\nafter true\n", out)
  end)

  it("lets other tasks run while it awaits", function()
    local list = {}
    local other = moonloop.create_task(function()
      list[#list + 1] = "other"
    end)
    for i in counter(2, nap) do list[#list + 1] = i end
    moonloop.await(other)
    assert.same({ "other", 1, 2 }, list)
  end)

  it("passes values in and out around its awaits", function()
    local co = coroutine.create(function(a)
      moonloop.sleep(0)
      local b, c = coroutine.yield(a + 1)
      moonloop.sleep(0)
      return b + c, moonloop.sleep(0, "slept")
    end)
    assert.same({ true, 2 }, { coroutine.resume(co, 1) })
    assert.same({ true, 7, "slept" }, { coroutine.resume(co, 3, 4) })
    assert.equal("dead", coroutine.status(co))
  end)

  it("fails after an await as any coroutine fails", function()
    local problem = { "problem" }
    local co = coroutine.create(function()
      moonloop.sleep(0)
      error(problem)
    end)
    local ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.equal(problem, err)
    assert.equal("dead", coroutine.status(co))
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
  end)

  it("raises the error of what it awaits inside itself", function()
    local future = moonloop.Future()
    local task = tasks.start(function()
      return collect(counter(1, function()
        local ok, err = pcall(moonloop.await, future)
        assert.same({ false, "broken" }, { ok, err })
      end))
    end)
    future:set_error("broken")
    assert.same({ 1 }, moonloop.await(task))
  end)

  it("awaits below pcall, metamethods and iterators in the same coroutine", function()
    local proxy = setmetatable({}, {
      __index = function(_, key) nap() return key .. "!" end,
      __call = function(_, value) nap() return value end,
      __add = function() nap() return "sum" end,
      __lt = function() nap() return true end,
    })
    local gen = coroutine.wrap(function()
      local ok = pcall(function() nap() coroutine.yield(proxy.x) error("e") end)
      coroutine.yield(ok)
      coroutine.yield(proxy(1))
      coroutine.yield(proxy + 1)
      coroutine.yield(proxy < proxy)
    end)
    assert.same({ "x!", false, 1, "sum", true }, { gen(), gen(), gen(), gen(), gen() })
  end)

  it("goes on in whatever task resumes it next", function()
    local gate = moonloop.Future()
    local gen = counter(2, function(i) if i == 2 then gate:await() end end)
    local first = moonloop.create_task(gen)
    assert.equal(1, moonloop.await(first))
    local second = tasks.start({ name = "second" }, gen)
    assert.is_false(second:done())
    gate:set_result()
    assert.equal(2, moonloop.await(second))
  end)

  it("is raised its task's cancellation at every await", function()
    local list = {}
    local task = tasks.start(function()
      local gen = counter(2, function(i)
        local _, err = pcall(moonloop.sleep, 60)
        list[i] = err.kind
      end)
      gen()
      gen()
    end)
    task:cancel()
    tasks.outcome(task)
    assert.same({ "CancelledError", "CancelledError" }, list)
  end)
end)

describe("An inner coroutine that awaits", function()
  local function drive(body)
    local gate, inner = moonloop.Future(), nil
    local task = tasks.start({ name = "driver" }, function()
      inner = coroutine.create(function()
        gate:await()
        return "end"
      end)
      return coroutine.resume(inner)
    end)
    body(inner)
    gate:set_result()
    assert.same({ true, "end" }, { moonloop.await(task) })
    assert.equal("dead", coroutine.status(inner))
  end

  it("has the status normal", function()
    drive(function(inner)
      assert.equal("normal", coroutine.status(inner))
    end)
  end)

  it("cannot be resumed: the error names the task that drives it", function()
    drive(function(inner)
      local ok, err = pcall(coroutine.resume, inner)
      assert.is_false(ok)
      assert.matches("driver", tostring(err))
    end)
  end)

  it("cannot be closed: the error names the task that drives it", function()
    drive(function(inner)
      local ok, err = pcall(coroutine.close, inner)
      assert.is_false(ok)
      assert.matches("driver", tostring(err))
    end)
  end)

  it("cannot be called again through wrap", function()
    local gate = moonloop.Future()
    local gen = coroutine.wrap(function() gate:await() end)
    local task = tasks.start({ name = "driver" }, gen)
    local ok, err = pcall(gen)
    assert.is_false(ok)
    assert.matches("driver", tostring(err))
    gate:set_result()
    moonloop.await(task)
  end)

  it("is suspended again, and closes, after it yielded", function()
    local list = {}
    local co = coroutine.create(function()
      local _ <close> = tasks.mark(list, "closed")
      nap()
      coroutine.yield()
    end)
    coroutine.resume(co)
    assert.equal("suspended", coroutine.status(co))
    assert.is_true(coroutine.close(co))
    assert.equal("dead", coroutine.status(co))
    assert.same({ "closed" }, list)
  end)

  it("shows in its task's stack", function()
    local function inside() moonloop.sleep_forever() end
    local task = tasks.start(function() coroutine.wrap(function() inside() end)() end)
    assert.truthy(task:get_stack():find("inside", 1, true))
    tasks.cancel(task)
  end)

  it("knows the task it runs in", function()
    local task
    task = moonloop.create_task(function()
      return coroutine.wrap(function()
        nap()
        return moonloop.current_task()
      end)()
    end)
    assert.equal(task, moonloop.await(task))
  end)
end)

describe("Nested generators", function()
  -- Each level drives the next by wrap, as a plain call.
  local function nest(depth)
    if depth == 0 then return nap() or 0 end
    return 1 + coroutine.wrap(nest)(depth - 1)
  end

  local function nest_for(depth)
    if depth == 0 then return nap() or coroutine.yield(0) end
    for value in coroutine.wrap(function() nest_for(depth - 1) end) do
      coroutine.yield(value + 1)
    end
  end

  local function value_for(depth)
    return coroutine.wrap(function() nest_for(depth - 1) end)() + 1
  end

  it("go as deep as Lua itself lets them", function()
    assert.equal(180, moonloop.await(moonloop.create_task(nest, 180)))
    assert.equal(85, moonloop.await(moonloop.create_task(value_for, 85)))
  end)

  it("fail cleanly when they go one level too deep", function()
    local deepest, err = 150, nil
    repeat
      local ok, problem = tasks.outcome(moonloop.create_task(nest, deepest + 1))
      if ok then deepest = deepest + 1 else err = problem end
    until err or deepest == 400
    assert.matches("C stack overflow", tostring(err))
    assert.equal(deepest, moonloop.await(moonloop.create_task(nest, deepest)))
  end)

  it("fail inside the task, which may go on", function()
    local task = moonloop.create_task(function()
      local ok = pcall(nest, 1000)
      return ok, nest(100)
    end)
    assert.same({ false, 100 }, { moonloop.await(task) })
  end)

  it("are cancelled from the innermost outward", function()
    local list = {}
    local function level(n)
      local _ <close> = tasks.mark(list, n)
      if n == 5 then moonloop.sleep_forever() end
      coroutine.wrap(level)(n + 1)
    end
    assert.is_true(tasks.cancel(tasks.start(level, 1)))
    assert.same({ 5, 4, 3, 2, 1 }, list)
  end)

  it("run a thousand side by side in a thousand tasks", function()
    local running = {}
    for i = 1, 1000 do
      running[i] = moonloop.create_task(function()
        local sum = 0
        for value in counter(3, nap) do sum = sum + value * i end
        return sum
      end)
    end
    for i = 1, 1000 do assert.equal(6 * i, moonloop.await(running[i])) end
  end)

  it("run a thousand side by side in one task", function()
    local generators, sum = {}, 0
    for i = 1, 1000 do generators[i] = counter(3, nap) end
    for _ = 1, 3 do
      for i = 1, 1000 do sum = sum + generators[i]() end
    end
    assert.equal(6000, sum)
  end)

  it("may be dropped while they are suspended", function()
    for _ = 1, 100 do counter(2, nap)() end
    collectgarbage()
    collectgarbage()
    assert.same({ 1, 2 }, collect(counter(2, nap)))
  end)
end)

describe("coroutine.yield in a task's own body", function()
  it("raises in the task", function()
    local err = tasks.failure(function() coroutine.yield(1) end)
    assert.matches("yield", tostring(err))
  end)

  it("leaves the task able to go on", function()
    local task = moonloop.create_task(function()
      local ok = pcall(coroutine.yield)
      return ok, moonloop.sleep(0, "on")
    end)
    assert.same({ false, "on" }, { moonloop.await(task) })
  end)

  it("raises also after awaits, and leaves the others alone", function()
    local other = tasks.start(function() return moonloop.sleep(0.001, "fine") end)
    tasks.failure(function()
      nap()
      coroutine.yield()
    end)
    assert.equal("fine", moonloop.await(other))
    testing.wait_all_blocked()
  end)
end)
