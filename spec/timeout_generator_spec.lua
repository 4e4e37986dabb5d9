-- SPDX-License-Identifier: MIT
-- Timeouts away from the plain block: in generators, whose scopes are in force
-- only while they run; bound without <close>; ten thousand of them.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local timeout, create_task, await = moonloop.timeout, moonloop.create_task, moonloop.await
local sleep, sleep_forever = moonloop.sleep, moonloop.sleep_forever

local kind, collect = tasks.kind, tasks.collect

-- A generator that counts upwards, each number after `pause`, all within
-- `seconds`.
local function counter(seconds, pause)
  return coroutine.wrap(function()
    local _ <close> = timeout(seconds)
    for i = 1, math.huge do
      sleep(pause)
      coroutine.yield(i)
    end
  end)
end

describe("A generator with a timeout inside", function()
  it("consumed by a slow loop times out only itself", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local list = {}
    local ok, err = pcall(function()
      for i in counter(10, 1) do
        list[#list + 1] = i
        sleep(20)
        list[#list + 1] = "body"
      end
    end)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.same({ 1, "body" }, list)
    sleep(0)
  end)

  it("is not in force in the loop's body although it has expired", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen, slept = counter(10, 1), 0
    gen()
    sleep(20)
    for _ = 1, 3 do slept = slept + sleep(5, 1) end
    assert.equal(3, slept)
    assert.equal("TimeoutError", kind(gen))
  end)

  it("times out while it waits itself, with the loop's other waits untouched", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, gen = moonloop.time(), counter(10, 4)
    assert.equal(1, gen())
    assert.equal(2, gen())
    assert.equal("TimeoutError", kind(gen))
    assert.equal(start + 10, moonloop.time())
    assert.equal("free", sleep(100, "free"))
  end)

  it("beside another has its own deadline", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local short, long = counter(4, 1), counter(100, 1)
    local list = {}
    for i = 1, 2 do list[i] = short() + long() end
    assert.same({ 2, 4 }, list)
    assert.equal("TimeoutError", kind(short))
    assert.equal(3, long())
  end)

  it("is under the deadline of the loop around it too", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local count = 0
    local function around()
      local _ <close> = timeout(5)
      for _ in counter(100, 2) do count = count + 1 end
    end
    local ok, err = pcall(around)
    assert.is_false(ok)
    assert.matches("after 5 s", err.message, 1, true)
    assert.equal(2, count)
  end)

  it("that is dropped by break has no effect later", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    local task = create_task(function()
      local function take()
        local first
        for i in counter(10, 1) do
          first = i
          if i == 1 then break end
        end
        return first
      end
      local first = take()
      collect()
      return first, sleep(100, "undisturbed")
    end)
    assert.same({ 1, "undisturbed" }, { await(task) })
    assert.same({}, { table.unpack(reports) })
  end)

  it("is left by coroutine.close", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local t
    local co = coroutine.create(function()
      local own <close> = timeout(10)
      t = own
      coroutine.yield()
    end)
    coroutine.resume(co)
    assert.is_true(coroutine.close(co))
    sleep(20)
    assert.is_false(t:expired())
    assert.equal("InvalidStateError", kind(t.reschedule, t, nil))
  end)

  it("is resumed by another task under its own deadline alone", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen = counter(10, 1)
    local first = create_task(function()
      local _ <close> = timeout(2)
      return gen()
    end)
    assert.equal(1, await(first))
    sleep(5)
    assert.equal(2, await(create_task(gen)))
    sleep(5)
    local _, err = tasks.outcome(create_task(gen))
    assert.equal("TimeoutError", err.kind)
    assert.matches("after 10 s", err.message, 1, true)
  end)

  it("passes a cancellation of its consumer on", function()
    local closed = {}
    local task = tasks.start(function()
      local gen = coroutine.wrap(function()
        local _ <close> = tasks.mark(closed, "closed")
        local _ <close> = timeout(60)
        sleep_forever()
      end)
      gen()
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ "closed" }, closed)
  end)
end)

describe("A timeout bound without <close>", function()
  -- The one report that there is, about what was made at `line`.
  local function assert_reported(reports, line)
    assert.equal(1, #reports)
    assert.matches("without <close>", reports[1].message, 1, true)
    local site = "timeout_generator_spec.lua:" .. line
    local text = reports[1].message .. " " .. tostring(reports[1].created_at)
    assert.matches(site, text, 1, true)
  end

  local function line_of(fn, offset)
    return debug.getinfo(fn, "S").linedefined + offset
  end

  it("is reported when its task ends, with where it was made", function()
    local reports <close> = tasks.reports()
    local function forget()
      local t = timeout(60)
      return t:when()
    end
    await(create_task(forget))
    collect()
    assert_reported(reports, line_of(forget, 1))
  end)

  it("is reported also where the task fails or is cancelled", function()
    local reports <close> = tasks.reports()
    local function fail()
      timeout(60)
      error("own", 0)
    end
    local function hang()
      timeout(60)
      sleep_forever()
    end
    assert.same({ false, "own" }, { tasks.outcome(create_task(fail)) })
    collect()
    assert_reported(reports, line_of(fail, 1))
    reports[1] = nil
    assert.is_true(tasks.cancel(tasks.start(hang)))
    collect()
    assert_reported(reports, line_of(hang, 1))
  end)

  it("is reported when an outer timeout is left, and ends there", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    local function forget() timeout(5) end
    local task = create_task(function()
      do
        local _ <close> = timeout(60)
        forget()
      end
      return sleep(10, "free")
    end)
    assert.equal("free", await(task))
    collect()
    assert_reported(reports, line_of(forget, 0))
  end)

  it("is reported when an outer CancelScope is left, and ends there", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    local function forget() timeout(5) end
    local task = create_task(function()
      local ok = moonloop.CancelScope {}:run(forget)
      return ok, sleep(10, "free")
    end)
    assert.same({ true, "free" }, { await(task) })
    collect()
    assert_reported(reports, line_of(forget, 0))
  end)

  it("is not reported where it is closed, or bound with <close>", function()
    local reports <close> = tasks.reports()
    await(create_task(function()
      local t <close> = timeout(60)
      assert.is_false(t:expired())
    end))
    collect()
    assert.same({}, { table.unpack(reports) })
  end)

  it("is named on stderr unless there is a handler", function()
    local status, out, err = stock.moonloop([[
      local moonloop = require "moonloop"
      moonloop.await(moonloop.create_task(function()
        local t = moonloop.timeout(60)
        print(t:expired())
      end))
      print("on")
    ]])
    assert.equal("false\non\n", out)
    assert.matches("without <close>", err, 1, true)
    assert.equal(0, status)
  end)
end)

describe("Ten thousand timeouts", function()
  local N = 10000

  it("that expire at one time end each its own task", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local late, list = 0, {}
    for i = 1, N do
      list[i] = create_task(function()
        local function block()
          local _ <close> = timeout(1)
          sleep_forever()
        end
        if kind(block) == "TimeoutError" then late = late + 1 end
        sleep(0)
      end)
    end
    for _, task in ipairs(list) do await(task) end
    assert.equal(N, late)
  end)

  it("that are left in time keep nothing", function()
    local function block(i)
      local _ <close> = timeout(1000)
      return i
    end
    collectgarbage()
    collectgarbage()
    local memory = collectgarbage("count")
    for i = 1, N do block(i) end
    collectgarbage()
    collectgarbage()
    assert.is_true(collectgarbage("count") - memory < 100)
  end)

  it("that are left in time do not keep a program alive", function()
    local status, out, err = stock.moonloop([[
      local moonloop = require "moonloop"
      for _ = 1, 10000 do
        local _ <close> = moonloop.timeout(100000)
      end
      local ok, err = pcall(function() moonloop.Future():await() end)
      print(ok, err.kind)
    ]])
    assert.equal("", err)
    assert.equal("false\tDeadlockError\n", out)
    assert.equal(0, status)
  end)
end)
