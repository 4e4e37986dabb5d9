-- SPDX-License-Identifier: MIT
-- Retry loops that swallow their cancellation: after a thousand in one cancelled
-- scope the task is reported and closed, with all that it has open, and nobody
-- else suffers. Clean-up that merely meets the cancellation often is left alone.
local moonloop = require "moonloop"
local script = require "spec.support.script"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

local kind = tasks.kind

local function retry_for_ever()
  while true do pcall(moonloop.sleep, 10) end
end

-- Both forms of a group around `fn(tg)`.
local FORMS = {
  ["TaskGroup"] = function(fn)
    local tg <close> = moonloop.TaskGroup()
    return fn(tg)
  end,
  ["task_group"] = function(fn) return moonloop.task_group(fn) end,
}

-- Scopes that are cancelled while `fn` runs in them.
local SCOPES = {
  ["a cancelled task"] = function(fn)
    moonloop.get_running_loop():call_later(1, moonloop.current_task().cancel,
      moonloop.current_task())
    fn()
  end,
  ["a timeout"] = function(fn)
    local _ <close> = moonloop.timeout(1)
    fn()
  end,
  ["move_on_after"] = function(fn) moonloop.move_on_after(1, fn) end,
  ["a CancelScope"] = function(fn)
    local scope = moonloop.CancelScope {}
    moonloop.get_running_loop():call_later(1, scope.cancel, scope)
    scope:run(fn)
  end,
  ["a task_group that is cancelled"] = function(fn)
    moonloop.task_group(function(tg)
      tg:create_task(function()
        moonloop.sleep(1)
        tg:cancel()
      end)
      fn()
    end)
  end,
}

-- Lets `task` end, in whatever way, and answers the reports about its swallowing.
local function swallowed(task, reports)
  tasks.outcome(task)
  assert.is_true(task:done())
  local list = {}
  for _, context in ipairs(reports) do
    if context.message:find("swallowed", 1, true) then
      assert.equal(task, context.task)
      list[#list + 1] = context
    end
  end
  return list
end

describe("A retry loop in", function()
  for what, in_scope in pairs(SCOPES) do
    it(what .. " ends, is reported once, and its <close> variables ran", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local reports <close> = tasks.reports()
      local list = {}
      local task = moonloop.create_task({ name = "stubborn" }, function()
        local _ <close> = tasks.mark(list, "outside")
        in_scope(function()
          local _ <close> = tasks.mark(list, "inside")
          retry_for_ever()
        end)
        list[#list + 1] = "not reached"
      end)
      local found = swallowed(task, reports)
      assert.equal(1, #reports)
      assert.equal(1, #found)
      assert.matches("stubborn", found[1].message, 1, true)
      assert.is_true(task:cancelled())
      assert.same({ "inside", "outside" }, list)
    end)
  end
end)

describe("A retry loop", function()
  it("lets the others run each time, and does not disturb them", function()
    local reports <close> = tasks.reports()
    local turns, tries = 0, 0
    local task = tasks.start(function()
      while true do
        pcall(moonloop.sleep_forever)
        tries = tries + 1
      end
    end)
    task:cancel()
    local other = moonloop.create_task(function()
      while not task:done() do
        nap()
        turns = turns + 1
      end
      return moonloop.sleep(0, "undisturbed")
    end)
    assert.equal(1, #swallowed(task, reports))
    assert.equal("undisturbed", other:await())
    assert.is_true(tries >= 1000 and tries < 1100)
    assert.is_true(turns >= tries - 10)
  end)

  it("in a main task ends the program, which says why", function()
    local status, out, err = script.run([[
      local moonloop = require "moonloop"
      moonloop.create_task(function()
        for _ = 1, 100 do moonloop.sleep(0) end
        print("other")
      end)
      local _ <close> = setmetatable({}, { __close = function() print("closed") end })
      local _ <close> = moonloop.timeout(0)
      while true do pcall(moonloop.sleep, 10) end
    ]])
    assert.equal("other\nclosed\n", out)
    assert.matches("swallowed", err, 1, true)
    assert.equal(1, status)
  end)
end)

describe("A cancelled task that retries for ever", function()
  local TRIES = {
    ["a TaskGroup"] = function() FORMS["TaskGroup"](nap) end,
    ["a TaskGroup with children"] = function()
      FORMS["TaskGroup"](function(tg) tg:create_task(nap) end)
    end,
    ["task_group"] = function() FORMS["task_group"](nap) end,
    ["tg:start"] = function()
      FORMS["TaskGroup"](function(tg) tg:start(moonloop.sleep_forever) end)
    end,
    ["a timeout"] = function()
      local _ <close> = moonloop.timeout(5)
      moonloop.sleep(10)
    end,
    ["move_on_after"] = function() moonloop.move_on_after(0, moonloop.sleep, 10) end,
    ["the await of a function"] = function() moonloop.await(moonloop.sleep_forever) end,
  }

  for what, try in pairs(TRIES) do
    it("what waits in " .. what .. " is closed", function()
      local reports <close> = tasks.reports()
      local task = tasks.start(function()
        pcall(moonloop.sleep_forever)
        while true do pcall(try) end
      end)
      task:cancel()
      assert.equal(1, #swallowed(task, reports))
      assert.equal(1, #reports)
      assert.is_true(task:cancelled())
    end)
  end
end)

describe("A task closed for its swallowing", function()
  it("raises CancelledError to who awaits it", function()
    local reports <close> = tasks.reports()
    local task = tasks.start(retry_for_ever)
    local waiter = tasks.start(function() return kind(task.await, task) end)
    task:cancel()
    assert.equal("CancelledError", waiter:await())
    assert.equal(1, #swallowed(task, reports))
  end)

  it("cannot await in its <close> variables, but runs them all", function()
    local reports <close> = tasks.reports()
    local list = {}
    local task = tasks.start(function()
      local _ <close> = tasks.mark(list, "last")
      local _ <close> = moonloop.defer(function()
        list[#list + 1] = "defer"
        nap()
        list[#list + 1] = "not reached"
      end)
      local _ <close> = tasks.mark(list, "first")
      retry_for_ever()
    end)
    task:cancel()
    assert.equal(1, #swallowed(task, reports))
    assert.same({ "first", "defer", "last" }, list)
  end)

  for form, in_group in pairs(FORMS) do
    it("has the children of its open groups cancelled, " .. form, function()
      local reports <close> = tasks.reports()
      local children, list = {}, {}
      local function child()
        local _ <close> = moonloop.defer(function() nap() list[#list + 1] = "cleaned up" end)
        moonloop.sleep_forever()
      end
      local task = tasks.start(in_group, function(outer)
        children[1] = outer:create_task(child)
        in_group(function(inner)
          children[2] = inner:create_task(child)
          coroutine.wrap(in_group)(function(innermost)
            children[3] = innermost:create_task(child)
            retry_for_ever()
          end)
        end)
      end)
      task:cancel()
      assert.equal(1, #swallowed(task, reports))
      testing.wait_all_blocked()
      for i = 1, 3 do assert.is_true(children[i]:cancelled()) end
      assert.equal(3, #list)
      assert.equal(1, #reports)
    end)

    it("has failures of those children reported, " .. form, function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local reports <close> = tasks.reports()
      local task = moonloop.create_task(in_group, function(tg)
        tg:create_task(function()
          pcall(moonloop.sleep_forever)
          error("clean-up", 0)
        end)
        retry_for_ever()
      end)
      nap()
      nap()
      task:cancel()
      assert.equal(1, #swallowed(task, reports))
      moonloop.sleep(60)
      assert.equal(2, #reports)
      assert.is_table(tasks.find(reports, function(context) return context.error == "clean-up" end))
    end)

    it("does not lose a child's failure that it was cancelled for, " .. form, function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local reports <close> = tasks.reports()
      local task = moonloop.create_task(in_group, function(tg)
        tg:create_task(error, "failed", 0)
        retry_for_ever()
      end)
      assert.equal(1, #swallowed(task, reports))
      moonloop.sleep(60)
      local told = tasks.find(reports, function(context) return context.error == "failed" end)
      local raised = not task:cancelled() and task:error()
      assert.equal("failed", told and told.error or raised and raised.errors[1].value)
    end)

    it("as a child lets its group end, " .. form, function()
      local reports <close> = tasks.reports()
      local child
      local ok, err = pcall(in_group, function(tg)
        child = tg:create_task(retry_for_ever)
        nap()
        tg:create_task(error, "failed", 0)
      end)
      assert.is_false(ok)
      assert.equal(1, #err.errors)
      assert.equal("failed", err.errors[1].value)
      assert.is_true(child:cancelled())
      assert.equal(1, #swallowed(child, reports))
      assert.equal(1, #reports)
    end)
  end
end)

describe("A task closed at the shutdown timeout", function()
  -- A program whose task `owner` opens a group by `group`, and `waits` or not in
  -- its body for ever; a child refuses to end.
  local function run(group, waits)
    return stock.lua(([[
      local moonloop = require "moonloop"
      local function mark(what)
        return setmetatable({}, { __close = function() print(what) end })
      end
      local runner = moonloop.Runner { shutdown_timeout = 0.01 }
      local function child()
        local _ <close> = mark("child closed")
        local _ <close> = moonloop.defer(moonloop.sleep_forever)
      end
      local function body(tg)
        local _ <close> = mark("body closed")
        tg:create_task({ name = "laggard" }, child)
        if %s then moonloop.sleep_forever() end
      end
      runner:run(function()
        moonloop.create_task({ name = "owner" }, function() %s end)
        moonloop.sleep(0)
        moonloop.sleep(0)
      end)
      print("ended", #moonloop.all_tasks())
    ]]):format(waits, group))
  end

  for form, group in pairs { TaskGroup = "local tg <close> = moonloop.TaskGroup() body(tg)",
    task_group = "moonloop.task_group(body)" } do
    for where, waits in pairs { ["in its body"] = true, ["while it is left"] = false } do
      it("leaves no child of its " .. form .. " behind, " .. where, function()
        local status, out, err = run(group, waits)
        assert.equal("body closed\nchild closed\nended\t0\n", out)
        assert.matches("task 'owner' did not end", err, 1, true)
        assert.matches("task 'laggard' did not end", err, 1, true)
        assert.is_nil(err:find("without <close>", 1, true))
        assert.equal(0, status)
      end)
    end
  end
end)

describe("Clean-up in a cancelled scope", function()
  -- Something whose closing waits for an answer, which the cancellation forbids.
  local Connection = {}
  Connection.__index = Connection

  function Connection:close()
    local _ <close> = setmetatable({}, { __close = function() self.closed = true end })
    moonloop.sleep(10)
  end

  local function connections(count)
    local list = {}
    for i = 1, count do list[i] = setmetatable({ closed = false }, Connection) end
    return list
  end

  it("is not cut short when 500 connections meet the cancellation", function()
    local reports <close> = tasks.reports()
    local open = connections(500)
    local task = tasks.start(function()
      pcall(moonloop.sleep_forever)
      for _, connection in ipairs(open) do
        assert.equal("CancelledError", kind(connection.close, connection))
      end
      return "all closed"
    end)
    task:cancel()
    assert.equal("all closed", task:await())
    for i = 1, 500 do assert.is_true(open[i].closed) end
    assert.equal(0, #reports)
  end)

  it("may take any number of scopes, each with its own cancellation", function()
    local reports <close> = tasks.reports()
    local met = 0
    local function close_all()
      for _, connection in ipairs(connections(500)) do
        if kind(connection.close, connection) == "CancelledError" then met = met + 1 end
      end
    end
    for _ = 1, 5 do assert.is_true(moonloop.move_on_after(0, close_all)) end
    for _ = 1, 5 do
      local _ <close> = moonloop.timeout(0)
      close_all()
    end
    for _ = 1, 2000 do moonloop.move_on_after(0, moonloop.sleep_forever) end
    assert.equal(5000, met)
    assert.equal(0, #reports)
  end)

  it("may go on for ever after uncancel", function()
    local reports <close> = tasks.reports()
    local met = 0
    local task = tasks.start(function()
      local task = moonloop.current_task()
      for _ = 1, 20 do
        for _ = 1, 300 do
          if kind(moonloop.sleep, 0) == "CancelledError" then met = met + 1 end
        end
        task:uncancel()
        task:cancel()
      end
      task:uncancel()
      return moonloop.sleep(0, "free")
    end)
    assert.equal("free", task:await())
    assert.equal(19 * 300, met)
    assert.equal(0, #reports)
  end)
end)
