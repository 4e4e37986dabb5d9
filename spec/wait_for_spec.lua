-- SPDX-License-Identifier: MIT
-- wait_for: results, time running out, who is cancelled, and every order of a
-- result, a cancellation and the deadline in one turn.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local wait_for, create_task, await = moonloop.wait_for, moonloop.create_task, moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local kind, ready = tasks.kind, tasks.ready

-- Waits for ever; once cancelled it answers as `answer` does.
local function stubborn(answer)
  return function()
    pcall(sleep_forever)
    return answer()
  end
end

describe("wait_for", function()
  it("returns all values of what it waits for", function()
    local expected = table.pack(1, nil, 3, nil)
    local function values() return 1, nil, 3, nil end
    assert.same(expected, table.pack(wait_for(values, 60)))
    assert.same(expected, table.pack(wait_for(ready(values()), 60)))
    assert.same(expected, table.pack(wait_for(create_task(values), 60)))
    assert.equal(0, select("#", wait_for(function() end, 60)))
  end)

  it("returns them when they come later", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.equal("v", wait_for(function() return sleep(5, "v") end, 10))
  end)

  it("raises its error as it is", function()
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x") } do
      local failed = Future()
      failed:set_error(problem)
      for _, aw in ipairs { failed, function() error(problem, 0) end } do
        local ok, err = pcall(wait_for, aw, 60)
        assert.is_false(ok)
        assert.equal(problem, err)
      end
    end
  end)

  it("of what is done returns without letting others run", function()
    local task = create_task(function()
      local ran = false
      create_task(function() ran = true end)
      return wait_for(ready("v"), 60), ran
    end)
    assert.same({ "v", false }, { await(task) })
  end)

  it("without seconds has no limit", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.equal("v", wait_for(create_task(sleep, 1e6, "v"), math.huge))
    assert.equal("v", wait_for(create_task(sleep, 1e6, "v"), nil))
  end)

  it("raises where no task runs, and runs nothing", function()
    local ran, err = false, nil
    local function run() ran = true end
    loop:call_soon(function() err = select(2, pcall(wait_for, run, 60)) end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
    assert.is_false(ran)
  end)
end)

describe("wait_for out of time", function()
  it("cancels what it waits for, waits for its end and raises TimeoutError", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, cleaned = moonloop.time(), false
    assert.equal("TimeoutError", kind(wait_for, function()
      local _ <close> = moonloop.defer(function()
        sleep(5)
        cleaned = true
      end)
      sleep_forever()
    end, 10))
    assert.is_true(cleaned)
    assert.equal(start + 15, moonloop.time())
  end)

  it("cancels Futures and Tasks that were passed in", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for _, aw in ipairs { Future(), create_task(sleep_forever) } do
      assert.equal("TimeoutError", kind(wait_for, aw, 1))
      assert.is_true(aw:cancelled())
    end
  end)

  it("leaves its caller free", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local task = create_task(function()
      return kind(wait_for, sleep_forever, 1), sleep(0, "free")
    end)
    assert.same({ "TimeoutError", "free" }, { await(task) })
  end)

  it("gives the answer of what ends with one all the same", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ "late", 2 }, { wait_for(stubborn(function() return "late", 2 end), 1) })
    assert.same({ false, "own" }, { pcall(wait_for, stubborn(function() error("own", 0) end), 1) })
  end)

  it("at once, for 0 seconds or less, looks only at what is done", function()
    for _, seconds in ipairs { 0, -1, -math.huge } do
      local future, ran = Future(), false
      assert.equal("v", wait_for(ready("v"), seconds))
      assert.equal("TimeoutError", kind(wait_for, future, seconds))
      assert.is_true(future:cancelled())
      assert.equal("TimeoutError", kind(wait_for, function() ran = true end, seconds))
      testing.wait_all_blocked()
      assert.is_false(ran)
    end
  end)

  it("at once waits for the end of a task", function()
    local cleaned = false
    local child = tasks.start(function()
      local _ <close> = moonloop.defer(function()
        sleep(0)
        cleaned = true
      end)
      sleep_forever()
    end)
    assert.equal("TimeoutError", kind(wait_for, child, 0))
    assert.is_true(cleaned)
  end)

  it("is the earlier of two that are nested", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, inner = moonloop.time(), nil
    local function nested(seconds)
      return function()
        inner = kind(wait_for, sleep_forever, seconds)
        return "inner is over"
      end
    end
    assert.equal("inner is over", wait_for(nested(1), 2))
    assert.equal("TimeoutError", inner)
    assert.equal("inner is over", wait_for(nested(4), 3))
    assert.equal("CancelledError", inner)
    assert.equal(start + 4, moonloop.time())
  end)
end)

describe("A cancelled wait_for", function()
  it("cancels what it waits for, waits for its end and raises CancelledError", function()
    local gate, cleaned = Future(), false
    local task = tasks.start(wait_for, function()
      local _ <close> = moonloop.defer(function()
        gate:await()
        cleaned = true
      end)
      sleep_forever()
    end, 60)
    task:cancel("because")
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result()
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.is_true(cleaned)
  end)

  it("cancels Futures and Tasks that were passed in", function()
    for _, aw in ipairs { Future(), create_task(sleep_forever) } do
      assert.is_true(tasks.cancel(tasks.start(wait_for, aw, 60)))
      assert.is_true(aw:cancelled())
    end
  end)

  it("is out of time in an outer timeout", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local child = create_task(sleep_forever)
    local task = create_task(function()
      local _ <close> = moonloop.timeout(1)
      wait_for(child, 2)
    end)
    local _, err = tasks.outcome(task)
    assert.equal("TimeoutError", err.kind)
    assert.matches("wait_for_spec.lua", err.message, 1, true)
    assert.is_true(child:cancelled())
  end)

  it("raises in a scope that is cancelled already, and runs nothing", function()
    local kinds, ran
    local task = tasks.start(function()
      pcall(sleep_forever)
      kinds = { kind(wait_for, ready("v"), 60), kind(wait_for, ready("v"), 0),
        kind(wait_for, function() ran = true end, 60) }
    end)
    task:cancel()
    tasks.outcome(task)
    assert.same({ "CancelledError", "CancelledError", "CancelledError" }, kinds)
    testing.wait_all_blocked()
    assert.is_nil(ran)
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.wait_for(moonloop.Future(), 60)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("What several wait_for wait for", function()
  it("gives its values to all, and its error", function()
    for _, ending in ipairs { "set_result", "set_error" } do
      local future = Future()
      local a, b = tasks.start(wait_for, future, 60), tasks.start(wait_for, future, 60)
      future[ending](future, "x")
      assert.same({ ending == "set_result", "x" }, { tasks.outcome(a) })
      assert.same({ ending == "set_result", "x" }, { tasks.outcome(b) })
    end
  end)

  it("is cancelled by the first that runs out of time, which the others see", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for _, aw in ipairs { Future(), create_task(sleep_forever) } do
      local kinds = {}
      local short = create_task(function() kinds[1] = kind(wait_for, aw, 1) end)
      local long = create_task(function()
        kinds[2] = kind(wait_for, aw, 2)
        sleep(0)
      end)
      await(short)
      await(long)
      assert.same({ "TimeoutError", "CancelledError" }, kinds)
    end
  end)

  it("raises CancelledError when somebody cancels it, and leaves the caller free", function()
    for _, aw in ipairs { Future(), create_task(sleep_forever) } do
      local task = tasks.start(function() return kind(wait_for, aw, 60), sleep(0, "free") end)
      aw:cancel()
      assert.same({ "CancelledError", "free" }, { await(task) })
    end
  end)
end)

describe("wait_for whose result, deadline and cancellation come in one turn", function()
  -- Lets `before`, the deadline of a wait_for and `after` happen at one time, in
  -- this order. The function waited for takes a thing when "result" happens.
  local function raced(before, after)
    local when, gate, seen = moonloop.time() + 1, Future(), { taken = 0 }
    local task
    local acts = {
      result = function() gate:set_result() end,
      cancel = function() task:cancel() end,
    }
    for _, act in ipairs(before) do loop:call_at(when, acts[act]) end
    task = create_task(function()
      seen.ok, seen.value = pcall(wait_for, function()
        gate:await()
        seen.taken = seen.taken + 1
        return "thing"
      end, 1)
      seen.after = kind(sleep, 0)
    end)
    sleep(0)
    for _, act in ipairs(after) do loop:call_at(when, acts[act]) end
    tasks.outcome(task)
    return seen
  end

  it("returns a result that came first, and the cancellation follows", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local expected = { ok = true, value = "thing", taken = 1, after = "CancelledError" }
    assert.same(expected, raced({ "result", "cancel" }, {}))
    assert.same(expected, raced({ "result" }, { "cancel" }))
  end)

  it("loses neither what was taken nor the cancellation in any order", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    for _, acts in ipairs {
      { { "result", "cancel" }, {} }, { { "cancel", "result" }, {} },
      { { "result" }, { "cancel" } }, { { "cancel" }, { "result" } },
      { {}, { "result", "cancel" } }, { {}, { "cancel", "result" } },
    } do
      local seen = raced(acts[1], acts[2])
      assert.equal(seen.ok and 1 or 0, seen.taken)
      assert.equal("CancelledError", seen.after)
      local name = seen.ok and seen.value or seen.value.kind
      assert.is_true(name == "thing" or name == "CancelledError" or name == "TimeoutError")
    end
  end)

  it("raises TimeoutError for a deadline alone, and nothing is taken", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local seen = raced({}, {})
    assert.equal("TimeoutError", seen.value.kind)
    assert.equal(0, seen.taken)
    assert.is_false(seen.after)
  end)

  it("loses nothing to a deadline of the same turn", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    assert.same({ ok = true, value = "thing", taken = 1, after = false }, raced({ "result" }, {}))
    local seen = raced({}, { "result" })
    assert.equal(seen.ok and 1 or 0, seen.taken)
    assert.is_false(seen.after)
  end)

  it("loses nothing when what it waits for cancels the caller and returns", function()
    local task, seen
    task = create_task(function()
      seen = { wait_for(function()
        task:cancel()
        return "thing"
      end, 60) }
      seen[2] = kind(sleep, 0)
    end)
    tasks.outcome(task)
    assert.same({ "thing", "CancelledError" }, seen)
  end)

  -- Does `act(task)` to a task that waits for `aw`; what came of it.
  local function noted(aw, act)
    local list = {}
    local task = tasks.start(function()
      list[1] = wait_for(aw, 60)
      list[2] = kind(sleep, 0)
    end)
    act(task)
    tasks.outcome(task)
    return list
  end

  it("returns what a passed-in Future or Task got first", function()
    local gate, other = Future(), Future()
    local child = tasks.start(other.await, other)
    assert.same({ "item", "CancelledError" }, noted(gate, function(task)
      gate:set_result("item")
      task:cancel()
    end))
    assert.same({ "item", "CancelledError" }, noted(child, function(task)
      child:add_done_callback(function() task:cancel() end)
      other:set_result("item")
    end))
  end)
end)

describe("Ten thousand wait_for", function()
  it("run out of time each by itself", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local N, before = 10000, #moonloop.all_tasks()
    local results, late, list = 0, 0, {}
    for i = 1, N do
      list[i] = create_task(function()
        local found = kind(wait_for, function() sleep(i % 2 == 0 and 1 or 3) end, 2)
        if found == "TimeoutError" then late = late + 1 end
        if found == false then results = results + 1 end
      end)
    end
    for _, task in ipairs(list) do await(task) end
    assert.same({ N // 2, N // 2 }, { results, late })
    assert.equal(before, #moonloop.all_tasks())
  end)
end)

describe("wait_for's arguments", function()
  it("are refused before anything runs", function()
    local function message(...)
      local before = #moonloop.all_tasks()
      local ok, err = pcall(wait_for, ...)
      assert.is_false(ok)
      assert.is_string(err)
      assert.equal(before, #moonloop.all_tasks())
      return err
    end
    assert.matches("bad argument #1 to 'wait_for' (Future, Task or function expected, got number)",
      message(5, 1), 1, true)
    assert.matches("bad argument #1 to 'wait_for' (Future, Task or function expected, got ",
      message(), 1, true)
    assert.matches("bad argument #2 to 'wait_for' %(number.*expected, got string%)",
      message(print, "soon"))
    assert.matches("bad argument #2 to 'wait_for'", message(print, 0 / 0), 1, true)
  end)
end)
