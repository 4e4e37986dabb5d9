-- SPDX-License-Identifier: MIT
-- Timeouts and task groups held in a plain `local`, without <close>: nothing
-- leaves their block, so they are reported with where they were made when their
-- task ends or an outer scope is left, and what they opened is ended then.
local moonloop = require "moonloop"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

-- Checks that there is one report, of what the one-line function `open` has made,
-- and takes it.
local function one_report(reports, open)
  local place = "unclosed_scope_spec.lua:" .. debug.getinfo(open, "S").linedefined
  assert.equal(1, #reports)
  assert.matches("without <close>", reports[1].message, 1, true)
  assert.matches(place, ("%s %s"):format(reports[1].message, reports[1].created_at), 1, true)
  reports[1] = nil
end

-- What can be bound without <close>; each opens one, in one line.
local OPENERS = {
  ["timeout"] = function() local _ = moonloop.timeout(1000) end,
  ["timeout without limit"] = function() local _ = moonloop.timeout() end,
  ["timeout_at"] = function() local _ = moonloop.timeout_at(moonloop.time() + 1000) end,
  ["TaskGroup"] = function() local _ = moonloop.TaskGroup() end,
}

-- What an outer scope may be; each runs `fn` inside.
local OUTER = {
  ["a timeout"] = function(fn)
    local _ <close> = moonloop.timeout(1000)
    fn()
  end,
  ["move_on_after"] = function(fn) moonloop.move_on_after(1000, fn) end,
  ["a CancelScope"] = function(fn) moonloop.CancelScope {}:run(fn) end,
  ["a shield"] = function(fn) moonloop.shield(fn) end,
  ["a TaskGroup"] = function(fn)
    local _ <close> = moonloop.TaskGroup()
    fn()
  end,
  ["a task_group"] = function(fn) moonloop.task_group(fn) end,
}

for what, open in pairs(OPENERS) do
  describe("A " .. what .. " bound without <close>", function()
    it("is reported when its task ends, which keeps its result", function()
      local reports <close> = tasks.reports()
      local task = tasks.start(function()
        open()
        return "value"
      end)
      assert.equal("value", task:await())
      one_report(reports, open)
    end)

    it("is reported when its task fails, with the task's own error", function()
      local reports <close> = tasks.reports()
      local task = tasks.start(function()
        open()
        error("own", 0)
      end)
      assert.same({ false, "own" }, { tasks.outcome(task) })
      one_report(reports, open)
    end)

    it("is reported when its task is cancelled", function()
      local reports <close> = tasks.reports()
      local task = tasks.start(function()
        open()
        moonloop.sleep_forever()
      end)
      assert.equal(0, #reports)
      assert.is_true(tasks.cancel(task))
      one_report(reports, open)
    end)

    for outer, in_outer in pairs(OUTER) do
      it("is reported when " .. outer .. " around it is left", function()
        local reports <close> = tasks.reports()
        moonloop.await(function()
          in_outer(function()
            open()
            nap()
            assert.equal(0, #reports)
          end)
          one_report(reports, open)
          assert.equal("free", moonloop.sleep(0, "free"))
        end)
        assert.equal(0, #reports)
      end)
    end

    it("is reported once, however long it is held", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local reports <close> = tasks.reports()
      moonloop.await(open)
      one_report(reports, open)
      moonloop.sleep(2000)
      collectgarbage()
      collectgarbage()
      moonloop.sleep(2000)
      assert.equal(0, #reports)
    end)

    it("in a generator is reported when the task ends, at the latest", function()
      local reports <close> = tasks.reports()
      local task = tasks.start(function()
        local gen = coroutine.wrap(function()
          open()
          coroutine.yield(1)
        end)
        gen()
        gen()
      end)
      task:await()
      collectgarbage()
      collectgarbage()
      testing.wait_all_blocked()
      one_report(reports, open)
    end)
  end)
end

describe("A timeout bound without <close>", function()
  it("has no effect once an outer scope was left", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    moonloop.await(function()
      moonloop.move_on_after(100, function() moonloop.timeout(10) end)
      assert.equal(1, #reports)
      assert.equal("undisturbed", moonloop.sleep(50, "undisturbed"))
    end)
    assert.equal(1, #reports)
  end)

  it("has no effect on the result of an outer scope", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    moonloop.await(function()
      assert.same({ true, "value" }, { moonloop.move_on_after(100, function()
        moonloop.timeout(10)
        return moonloop.sleep(5, "value")
      end) })
    end)
    assert.equal(1, #reports)
  end)

  it("lets the scopes inside it be left as ever", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    local open = OPENERS["timeout"]
    moonloop.await(function()
      open()
      local ok, err = pcall(function()
        local _ <close> = moonloop.timeout(10)
        moonloop.sleep_forever()
      end)
      assert.is_false(ok)
      assert.equal("TimeoutError", err.kind)
      assert.equal(0, #reports)
    end)
    one_report(reports, open)
  end)

  it("is named in the command's words, with the line of the script", function()
    local status, out, err = script.run([[
      local moonloop = require "moonloop"
      local t = moonloop.timeout(1000)  -- line 2
      print("main ends", t:expired())
    ]])
    assert.equal("main ends\tfalse\n", out)
    assert.matches("without <close>", err, 1, true)
    assert.matches("script.lua:2", err, 1, true)
    assert.equal(0, status)
  end)
end)

describe("A TaskGroup bound without <close>", function()
  it("has its children cancelled when its task ends", function()
    local reports <close> = tasks.reports()
    local child, list = nil, {}
    local task = moonloop.create_task(function()
      local tg = moonloop.TaskGroup()
      child = tg:create_task(function()
        local _ <close> = moonloop.defer(function() nap() list[1] = "cleaned up" end)
        moonloop.sleep_forever()
      end)
      nap()
      return "value"
    end)
    assert.equal("value", task:await())
    testing.wait_all_blocked()
    assert.is_true(child:cancelled())
    assert.same({ "cleaned up" }, list)
    assert.equal(1, #reports)
  end)

  it("has its children cancelled when an outer scope is left", function()
    local reports <close> = tasks.reports()
    moonloop.await(function()
      local child
      moonloop.move_on_after(1000, function()
        child = moonloop.TaskGroup():create_task(moonloop.sleep_forever)
        nap()
      end)
      testing.wait_all_blocked()
      assert.is_true(child:cancelled())
    end)
    assert.equal(1, #reports)
  end)

  it("has failures that come later reported too", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    moonloop.await(function()
      moonloop.TaskGroup():create_task(function()
        pcall(moonloop.sleep_forever)
        error("clean-up", 0)
      end)
      nap()
    end)
    moonloop.sleep(60)
    assert.equal(2, #reports)
    assert.is_table(tasks.find(reports, function(context) return context.error == "clean-up" end))
  end)

  it("does not lose a failure that came before", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    moonloop.await(function()
      moonloop.TaskGroup():create_task(error, "failed", 0)
      pcall(moonloop.sleep, 1)
    end)
    moonloop.sleep(60)
    assert.equal(2, #reports)
    assert.is_table(tasks.find(reports, function(context) return context.error == "failed" end))
  end)

  it("takes no more children after that", function()
    local reports <close> = tasks.reports()
    local group
    moonloop.await(function() group = moonloop.TaskGroup() end)
    assert.equal(1, #reports)
    local ok, err = pcall(group.create_task, group, nap)
    assert.is_false(ok)
    assert.is_true(moonloop.is_error(err, "InvalidStateError"))
  end)
end)

describe("Several scopes bound without <close>", function()
  it("are reported one by one", function()
    local reports <close> = tasks.reports()
    moonloop.await(function()
      for _ = 1, 3 do
        moonloop.timeout(1000)
        moonloop.TaskGroup()
      end
      assert.equal(0, #reports)
    end)
    assert.equal(6, #reports)
    for i = 1, 6 do assert.matches("without <close>", reports[i].message, 1, true) end
  end)
end)

describe("A scope bound with <close>", function()
  local WAYS = {
    ["return"] = function() return "value" end,
    ["an error"] = function() error("body", 0) end,
    ["a cancellation"] = function()
      moonloop.current_task():cancel()
      nap()
    end,
  }

  for way, leave in pairs(WAYS) do
    it("is not reported when its block is left by " .. way, function()
      local reports <close> = tasks.reports()
      local left = 0
      for _, open in ipairs { moonloop.timeout, moonloop.TaskGroup } do
        tasks.outcome(moonloop.create_task(function()
          local _ <close> = setmetatable({}, { __close = function() left = left + 1 end })
          local _ <close> = open()
          leave()
        end))
      end
      assert.equal(2, left)
      assert.equal(0, #reports)
    end)
  end

  it("is not reported when its block is left by break or goto", function()
    local reports <close> = tasks.reports()
    moonloop.await(function()
      for i = 1, 4 do
        local _ <close> = moonloop.timeout(1000)
        local _ <close> = moonloop.TaskGroup()
        if i == 2 then goto continue end
        if i == 3 then break end
        nap()
        ::continue::
      end
      nap()
    end)
    assert.equal(0, #reports)
  end)
end)
