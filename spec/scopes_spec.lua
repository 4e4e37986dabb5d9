-- SPDX-License-Identifier: MIT
-- Scopes whose coroutine or task ends without leaving them: they are let go, and
-- neither their deadline nor a late cancel reaches what is gone.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"

local core = require "moonloop.core" -- where a scope with a deadline is made

local function collect()
  collectgarbage()
  collectgarbage()
end

-- A coroutine suspended inside the shield of a `defer`.
local function suspended_in_defer()
  local co = coroutine.create(function()
    local _ <close> = moonloop.defer(function() coroutine.yield("inside") end)
  end)
  assert.same({ true, "inside" }, { coroutine.resume(co) })
  return co
end

describe("A generator closed inside an open scope", function()
  it("is dead, and resuming it says so", function()
    local co = suspended_in_defer()
    assert.is_true(coroutine.close(co))
    collect()
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
  end)

  it("leaves its task its own scopes", function()
    local task = tasks.start(function()
      coroutine.close(suspended_in_defer())
      collect()
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
  end)

  it("takes its deadline with it", function()
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0 }
    local scope = core.cancel_scope(moonloop.time() + 10)
    local task = moonloop.create_task(function()
      local co = coroutine.create(function() scope:run(coroutine.yield) end)
      coroutine.resume(co)
      coroutine.close(co)
      return moonloop.sleep(20, "undisturbed")
    end)
    assert.equal("undisturbed", task:await())
    scope:cancel()
    assert.is_false(scope.cancelled_caught)
  end)
end)

describe("A generator that is collected inside an open scope", function()
  it("is dropped without effect on its task", function()
    local task = tasks.start(function()
      for _ = 1, 100 do suspended_in_defer() end
      collect()
      local kept = suspended_in_defer()
      local ok = coroutine.resume(kept)
      return ok, coroutine.status(kept), moonloop.sleep(0, "on")
    end)
    assert.same({ true, "dead", "on" }, { task:await() })
  end)
end)

describe("A generator that fails inside an open scope", function()
  it("leaves its scopes behind", function()
    local task = tasks.start(function()
      local gen = coroutine.wrap(function()
        local _ <close> = moonloop.defer(function()
          coroutine.yield()
          error("inside", 0)
        end)
      end)
      gen()
      local ok, err = pcall(gen)
      collect()
      local again = pcall(gen)
      assert.is_false(again)
      assert.same({ false, "inside" }, { ok, err })
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
  end)
end)

describe("A task closed inside an open scope", function()
  -- A task that swallows its cancellation in a scope until it is closed.
  local function closed_in(scope)
    local task = tasks.start({ name = "stubborn" }, function()
      scope:run(function()
        while true do pcall(moonloop.sleep_forever) end
      end)
    end)
    task:cancel()
    pcall(task.await, task)
    return task:cancelled()
  end

  it("is not reached by the scope's deadline any more", function()
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    local scope = core.cancel_scope(moonloop.time() + 1000)
    assert.is_true(closed_in(scope))
    assert.equal(1, #reports)
    reports[1] = nil
    collect()
    moonloop.sleep(2000)
    assert.is_false(scope.cancelled_caught)
  end)

  it("is not reached by the scope's cancel any more", function()
    local reports <close> = tasks.reports()
    local scope = core.cancel_scope()
    assert.is_true(closed_in(scope))
    assert.equal(1, #reports)
    reports[1] = nil
    collect()
    scope:cancel("too late")
    assert.is_true(scope.cancel_called)
    assert.is_false(scope.cancelled_caught)
  end)
end)
