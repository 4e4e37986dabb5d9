-- SPDX-License-Identifier: MIT
-- Groups and timeouts opened in a generator: they are in force while it runs and
-- not in its consumer, and none outlives a generator that is dropped or closed.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

local kind, collect = tasks.kind, tasks.collect

-- Lets go what nobody holds, and lets that have its effect.
-- Both forms of a group around `fn(tg)`.
local FORMS = {
  ["TaskGroup"] = function(fn)
    local tg <close> = moonloop.TaskGroup()
    return fn(tg)
  end,
  ["task_group"] = function(fn) return moonloop.task_group(fn) end,
}

for form, in_group in pairs(FORMS) do
  describe("A generator with a " .. form, function()
    it("yields from inside it, and waits for its children at its end", function()
      local gate, list = moonloop.Future(), {}
      local consumer = tasks.start(function()
        for value in coroutine.wrap(function()
          in_group(function(tg)
            tg:create_task(function()
              gate:await()
              list[#list + 1] = "child"
            end)
            for i = 1, 2 do coroutine.yield(i) end
          end)
          coroutine.yield("after the group")
        end) do list[#list + 1] = value end
      end)
      assert.same({ 1, 2 }, list)
      gate:set_result()
      consumer:await()
      assert.same({ 1, 2, "child", "after the group" }, list)
    end)

    it("lets the children run while its consumer is busy", function()
      local child
      local gen = coroutine.wrap(function()
        in_group(function(tg)
          child = tg:create_task(function() nap() return "ended" end)
          coroutine.yield()
        end)
      end)
      gen()
      testing.wait_all_blocked()
      assert.equal("ended", child:result())
      gen()
    end)

    it("hears of a child's failure at its next await, its consumer never", function()
      local reason
      local gen = coroutine.wrap(function()
        in_group(function(tg)
          tg:create_task(error, "failed", 0)
          coroutine.yield("value")
          reason = kind(nap)
        end)
      end)
      assert.equal("value", gen())
      testing.wait_all_blocked()
      assert.equal("undisturbed", moonloop.sleep(0, "undisturbed"))
      local ok, err = pcall(gen)
      assert.is_false(ok)
      assert.equal("CancelledError", reason)
      assert.equal("ErrorGroup", err.kind)
      assert.equal("failed", err.errors[1].value)
      assert.equal("undisturbed", moonloop.sleep(0, "undisturbed"))
    end)

    it("that fails cancels the children and waits for them", function()
      local list, child = {}, nil
      local gen = coroutine.wrap(function()
        in_group(function(tg)
          child = tg:create_task(function()
            local _ <close> = moonloop.defer(function() nap() list[1] = "cleaned up" end)
            moonloop.sleep_forever()
          end)
          coroutine.yield()
          error("body", 0)
        end)
      end)
      gen()
      nap()
      local ok, err = pcall(gen)
      assert.is_false(ok)
      assert.equal("body", err.errors[1].value)
      assert.same({ "cleaned up" }, list)
      assert.is_true(child:cancelled())
    end)

    it("cancels and awaits the children when its consumer is cancelled in it", function()
      local list, child = {}, nil
      local consumer = tasks.start(coroutine.wrap(function()
        in_group(function(tg)
          child = tg:create_task(function()
            local _ <close> = moonloop.defer(function() nap() list[1] = "cleaned up" end)
            moonloop.sleep_forever()
          end)
          moonloop.sleep_forever()
        end)
      end))
      assert.is_true(tasks.cancel(consumer))
      assert.same({ "cleaned up" }, list)
      assert.is_true(child:cancelled())
    end)

    it("goes on in whatever task resumes it next", function()
      local gate, reason = moonloop.Future(), nil
      local gen = coroutine.wrap(function()
        in_group(function(tg)
          tg:create_task(function() error(gate:await(), 0) end)
          coroutine.yield()
          reason = kind(moonloop.sleep_forever)
        end)
      end)
      gen()
      local second = tasks.start(gen)
      gate:set_result("failed")
      local ok, err = tasks.outcome(second)
      assert.is_false(ok)
      assert.equal("failed", err.errors[1].value)
      assert.equal("CancelledError", reason)
    end)
  end)

  describe("A generator left suspended in a " .. form, function()
    -- A coroutine that has yielded in a group with children of `fn`, and those.
    local function suspended(fn)
      local children = {}
      local co = coroutine.create(function()
        in_group(function(tg)
          for i = 1, 3 do children[i] = tg:create_task(fn) end
          coroutine.yield("inside")
        end)
      end)
      assert.same({ true, "inside" }, { coroutine.resume(co) })
      return co, children
    end

    local function all_cancelled(children)
      assert.equal(3, #children)
      for _, child in ipairs(children) do assert.is_true(child:cancelled()) end
    end

    local function failing_clean_up()
      pcall(moonloop.sleep_forever)
      error("clean-up", 0)
    end

    it("cancels the children when it is closed, and does not wait for them", function()
      local co, children = suspended(moonloop.sleep_forever)
      testing.wait_all_blocked()
      assert.is_true(coroutine.close(co))
      assert.is_false(children[1]:done())
      testing.wait_all_blocked()
      all_cancelled(children)
      assert.equal("undisturbed", moonloop.sleep(0, "undisturbed"))
    end)

    it("cancels the children when it is collected", function()
      local children = select(2, suspended(moonloop.sleep_forever))
      testing.wait_all_blocked()
      collect()
      all_cancelled(children)
      assert.equal("undisturbed", moonloop.sleep(0, "undisturbed"))
    end)

    it("cancels the children when its task ends", function()
      local reports <close> = tasks.reports()
      local co, children
      local task = moonloop.create_task(function()
        co, children = suspended(moonloop.sleep_forever)
        nap()
        return "value"
      end)
      assert.equal("value", task:await())
      testing.wait_all_blocked()
      all_cancelled(children)
      assert.is_thread(co)
      assert.equal(0, #reports)
    end)

    it("has failures that come later reported, each once", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      for _, drop in ipairs { coroutine.close, function() end } do
        local reports <close> = tasks.reports()
        do
          local co = suspended(failing_clean_up)
          testing.wait_all_blocked()
          drop(co)
        end
        collect()
        moonloop.sleep(60)
        assert.equal(3, #reports)
        for i = 1, 3 do assert.equal("clean-up", reports[i].error) end
      end
    end)
  end)
end

describe("A for loop over a generator with a group", function()
  -- Takes one value of a generator whose group has a child, and leaves by break.
  local function take_one(children)
    local gen = coroutine.wrap(function()
      local tg <close> = moonloop.TaskGroup()
      children[#children + 1] = tg:create_task(moonloop.sleep_forever)
      for i = 1, math.huge do
        nap()
        coroutine.yield(i)
      end
    end)
    for value in gen do
      if value == 2 then break end
    end
  end

  it("that is left by break leaves nothing running", function()
    local children = {}
    for _ = 1, 100 do take_one(children) end
    assert.is_false(children[100]:done())
    collect()
    for i = 1, 100 do assert.is_true(children[i]:cancelled()) end
  end)

  it("may close it itself", function()
    local child
    local co = coroutine.create(function()
      local tg <close> = moonloop.TaskGroup()
      child = tg:create_task(moonloop.sleep_forever)
      while true do coroutine.yield("value") end
    end)
    local function step() return select(2, coroutine.resume(co)) end
    local closer = setmetatable({}, { __close = function() coroutine.close(co) end })
    for value in step, nil, nil, closer do
      nap()
      if value == "value" then break end
    end
    testing.wait_all_blocked()
    assert.is_true(child:cancelled())
    assert.equal("dead", coroutine.status(co))
  end)
end)

describe("A timeout in a generator", function()
  -- A generator that lives for `seconds` and yields numbers.
  local function limited(seconds)
    return coroutine.wrap(function()
      local _ <close> = moonloop.timeout(seconds)
      for i = 1, math.huge do
        coroutine.yield(i)
        nap()
      end
    end)
  end

  it("times out the generator alone, however slow its consumer", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local list = {}
    local ok, err = pcall(function()
      for value in limited(10) do
        list[#list + 1] = value
        moonloop.sleep(4)
      end
    end)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.same({ 1, 2, 3 }, list)
    assert.equal("undisturbed", moonloop.sleep(20, "undisturbed"))
  end)

  it("does not reach its consumer's waits when it passes meanwhile", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen = limited(10)
    assert.equal(1, gen())
    assert.equal("undisturbed", moonloop.sleep(100, "undisturbed"))
    assert.equal("TimeoutError", kind(gen))
  end)

  it("ends a wait of the generator", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen = coroutine.wrap(function()
      local _ <close> = moonloop.timeout(10)
      coroutine.yield(1)
      moonloop.sleep_forever()
    end)
    gen()
    assert.equal("TimeoutError", kind(gen))
    assert.equal("undisturbed", moonloop.sleep(0, "undisturbed"))
  end)

  it("is gone with a generator that ended in time", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen = coroutine.wrap(function()
      local _ <close> = moonloop.timeout(10)
      moonloop.sleep(5)
      coroutine.yield(1)
    end)
    gen()
    assert.is_nil(gen())
    assert.equal("undisturbed", moonloop.sleep(20, "undisturbed"))
  end)

  it("is gone with a generator that was dropped or closed", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    limited(10)()
    local co = coroutine.create(function()
      local _ <close> = moonloop.timeout(10)
      coroutine.yield()
    end)
    coroutine.resume(co)
    assert.is_true(coroutine.close(co))
    collect()
    assert.equal("undisturbed", moonloop.sleep(20, "undisturbed"))
  end)

  it("reaches the task that resumes the generator next", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen = limited(10)
    gen()
    local second = moonloop.create_task(function()
      moonloop.sleep(20)
      return kind(gen), moonloop.sleep(20, "undisturbed")
    end)
    assert.same({ "TimeoutError", "undisturbed" }, { second:await() })
  end)

  it("of its consumer covers its waits", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local inside
    local ok, err = pcall(function()
      local _ <close> = moonloop.timeout(10)
      coroutine.wrap(function()
        local _ <close> = moonloop.timeout(20)
        inside = kind(moonloop.sleep_forever)
        nap()
      end)()
    end)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.matches("after 10 s", err.message, 1, true)
    assert.equal("CancelledError", inside)
  end)

  it("belongs to the innermost of nested generators that opened it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local outer = coroutine.wrap(function()
      local inner = limited(10)
      coroutine.yield(inner())
      coroutine.yield(moonloop.sleep(20, "the outer one waits"))
      coroutine.yield(kind(inner))
    end)
    assert.same({ 1, "the outer one waits", "TimeoutError" }, { outer(), outer(), outer() })
  end)

  it("made by move_on_after lets the generator go on", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local gen = coroutine.wrap(function()
      local ok = moonloop.move_on_after(10, function()
        coroutine.yield(1)
        moonloop.sleep_forever()
      end)
      coroutine.yield(ok)
    end)
    assert.equal(1, gen())
    assert.equal("undisturbed", moonloop.sleep(20, "undisturbed"))
    assert.is_false(gen())
  end)
end)
