-- SPDX-License-Identifier: MIT
-- Groups that are cancelled or left by their own children, children that are
-- cancelled once, and calls that wait for each other: nothing hangs. And groups
-- left where nothing can await.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

-- Both forms of a group around `fn(tg)`.
local FORMS = {
  ["TaskGroup"] = function(fn)
    local tg <close> = moonloop.TaskGroup()
    return fn(tg)
  end,
  ["task_group"] = function(fn) return moonloop.task_group(fn) end,
}

describe("tg:cancel", function()
  it("called by a child that is begun eagerly cancels that child too", function()
    for _, in_group in pairs(FORMS) do
      local child
      in_group(function(tg)
        tg:create_task({ eager_start = true }, function()
          child = moonloop.current_task()
          tg:cancel()
          moonloop.sleep_forever()
        end)
      end)
      assert.is_true(child:cancelled())
    end
  end)

  it("called by a child that starts eagerly cancels that child too", function()
    local child
    local function body(tg)
      tg:start({ eager_start = true }, function(started)
        child = moonloop.current_task()
        tg:cancel()
        started()
        moonloop.sleep_forever()
      end)
    end
    for _, in_group in pairs(FORMS) do
      in_group(body)
      assert.is_true(child:cancelled())
    end
  end)

  it("and leaving the block cancel a child once, with the first message", function()
    local message, count
    local ok, err = pcall(function()
      local tg <close> = moonloop.TaskGroup()
      tg:create_task(function()
        message = select(2, pcall(moonloop.sleep_forever)).message
        count = moonloop.current_task():cancelling()
      end)
      nap()
      tg:cancel()
      error("body", 0)
    end)
    assert.is_false(ok)
    assert.equal("body", err.errors[1].value)
    assert.equal("the group was cancelled", message)
    assert.equal(1, count)
  end)
end)

describe("A child whose sibling fails", function()
  it("is cancelled once, and free again after one uncancel", function()
    for _, in_group in pairs(FORMS) do
      local gate, message, after = moonloop.Future(), nil, nil
      local owner = tasks.start(function()
        in_group(function(tg)
          tg:create_task(function()
            message = select(2, pcall(moonloop.sleep_forever)).message
            moonloop.current_task():uncancel()
            after = moonloop.sleep(0, "free again")
          end)
          tg:create_task(function() error(gate:await(), 0) end)
        end)
      end)
      gate:set_result("failed")
      local ok, err = tasks.outcome(owner)
      assert.is_false(ok)
      assert.equal("failed", err.errors[1].value)
      assert.equal("another task of the group failed", message)
      assert.equal("free again", after)
    end
  end)
end)

for form, in_group in pairs(FORMS) do
  describe("A " .. form .. " that is left by its own child", function()
    it("raises InvalidStateError, and cancels the others", function()
      local sibling
      local gen = coroutine.wrap(function()
        in_group(function(tg) coroutine.yield(tg) end)
      end)
      local tg = gen()
      sibling = tg:create_task(moonloop.sleep_forever)
      local child = tg:create_task({ name = "child" }, gen)
      local ok, err = tasks.outcome(child)
      assert.is_false(ok)
      assert.is_true(moonloop.is_error(err, "InvalidStateError"))
      assert.matches("'child'", err.message, 1, true)
      testing.wait_all_blocked()
      assert.is_true(sibling:cancelled())
    end)
  end)
end

describe("Tasks that cancel each other", function()
  local CALLS = {
    race = function(...) moonloop.race { ... } end,
    gather = function(...) moonloop.gather(...) end,
    wait_for = function(fn) moonloop.wait_for(moonloop.create_task(fn)) end,
  }

  for name, call in pairs(CALLS) do
    it("and wait for each other's end, in a " .. name .. " and a wait_for, both end", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local reports <close> = tasks.reports()
      local outer
      outer = moonloop.create_task(function()
        call(function() moonloop.wait_for(outer, 10) end, moonloop.sleep_forever)
      end)
      pcall(moonloop.await, outer)
      testing.wait_all_blocked()
      assert.is_true(outer:done())
      assert.equal(1, #moonloop.all_tasks())
      moonloop.sleep(10)
      collectgarbage()
      moonloop.sleep(10)
      for _, report in ipairs(reports) do -- of the inner one, whose error nobody can have
        assert.equal("TimeoutError", report.error.kind)
      end
    end)
  end
end)

describe("A child that waits for the end of the task that has its group", function()
  it("fails, and so does the group", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local outer
    outer = moonloop.create_task(function()
      moonloop.task_group(function(tg)
        tg:create_task({ name = "child" }, function() moonloop.wait_for(outer, 10) end)
      end)
    end)
    local ok, err = tasks.outcome(outer)
    assert.is_false(ok)
    assert.equal(1, #err.errors)
    assert.equal("InvalidStateError", err.errors[1].kind)
    assert.matches("task 'child' waits for the end", err.errors[1].message, 1, true)
  end)
end)

describe("A group that is left where nothing can await", function()
  it("raises, naming the function, and cancels its children", function()
    local child
    local ok, err = pcall(string.gsub, "x", "x", function()
      local tg <close> = moonloop.TaskGroup()
      child = tg:create_task(moonloop.sleep_forever)
    end)
    assert.is_false(ok)
    assert.matches("string.gsub", err.message, 1, true)
    testing.wait_all_blocked()
    assert.is_true(child:cancelled())
  end)

  it("raises in a coroutine that stock Lua drives", function()
    local _, out = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        local tg, child = moonloop.TaskGroup()
        child = tg:create_task(moonloop.sleep_forever)
        local ok, err = pcall(coroutine.wrap(function() local _ <close> = tg end))
        print(ok, err)
        moonloop.sleep(0)
        moonloop.sleep(0)
        print(child:cancelled())
      end)
    ]])
    assert.matches("^false\t[^\n]*patch_coroutines[^\n]*\ntrue\n$", out)
  end)
end)
