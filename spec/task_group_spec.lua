-- SPDX-License-Identifier: MIT
-- Task groups in which nothing fails: their children are waited for, values
-- pass, what children inherit, when a group is closed, what its arguments may
-- be. Failures: task_group_errors_spec.lua.
local moonloop = require "moonloop"
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

for form, in_group in pairs(FORMS) do
  describe("Leaving a group made by " .. form, function()
    it("needs no children", function()
      assert.same({ "value" }, { in_group(function() return "value" end) })
    end)

    it("waits for children that are not done", function()
      local gate, list = moonloop.Future(), {}
      local owner = tasks.start(function()
        in_group(function(tg)
          for i = 1, 3 do tg:create_task(function() list[i] = gate:await() + i end) end
        end)
        list[#list + 1] = "left"
      end)
      assert.is_false(owner:done())
      gate:set_result(10)
      owner:await()
      assert.same({ 11, 12, 13, "left" }, list)
    end)

    it("is quiet when all its children have ended before", function()
      local child
      local value = in_group(function(tg)
        child = tg:create_task(nap)
        child:await()
        testing.wait_all_blocked()
        return "value"
      end)
      assert.equal("value", value)
      assert.is_true(child:done())
    end)

    it("keeps the values of its body, nil among them", function()
      local got = table.pack(in_group(function(tg)
        tg:create_task(nap)
        return 1, nil, 3, nil
      end))
      assert.same({ 1, nil, 3, nil, n = 4 }, got)
    end)

    it("leaves the children's results in their tasks", function()
      local child
      in_group(function(tg)
        child = tg:create_task(function(...) return ... end, 1, nil, 3)
      end)
      assert.same({ 1, nil, 3, n = 3 }, table.pack(child:result()))
    end)

    it("waits for what children and other tasks add meanwhile", function()
      local gate, count, group = moonloop.Future(), 0, nil
      local function grow(tg, depth)
        count = count + 1
        if depth > 0 then tg:create_task(grow, tg, depth - 1) end
      end
      local owner = tasks.start(in_group, function(tg)
        group = tg
        tg:create_task(gate.await, gate)
      end)
      group:create_task(grow, group, 1000)
      gate:set_result()
      owner:await()
      assert.equal(1001, count)
    end)

    it("lets other tasks run while it waits", function()
      local gate, rounds = moonloop.Future(), 0
      tasks.start(function()
        for _ = 1, 10 do
          nap()
          rounds = rounds + 1
        end
        gate:set_result()
      end)
      in_group(function(tg) tg:create_task(gate.await, gate) end)
      assert.equal(10, rounds)
    end)

    it("shows in the task that waits", function()
      local gate = moonloop.Future()
      local owner = tasks.start(in_group, function(tg) tg:create_task(gate.await, gate) end)
      assert.equal("children of a task group", owner:awaiting())
      gate:set_result()
      owner:await()
    end)
  end)

  describe("A group made by " .. form, function()
    it("may stand in another, and is left before it", function()
      local list = {}
      in_group(function(outer)
        outer:create_task(function() list[#list + 1] = "child of the outer" end)
        in_group(function(inner)
          inner:create_task(function()
            nap()
            list[#list + 1] = "child of the inner"
          end)
        end)
        list[#list + 1] = "inner left"
        outer:create_task(function() list[#list + 1] = "late child" end)
      end)
      assert.same({ "child of the outer", "child of the inner", "inner left", "late child" },
        list)
    end)

    it("may stand in a child of another", function()
      local list = {}
      in_group(function(outer)
        for i = 1, 3 do
          outer:create_task(in_group, function(inner)
            for j = 1, 3 do inner:create_task(function() list[#list + 1] = i * j end) end
          end)
        end
      end)
      assert.equal(9, #list)
    end)

    it("makes no tasks once it was left", function()
      local group
      in_group(function(tg) group = tg end)
      local err = tasks.failure(function() group:create_task(nap) end)
      assert.is_true(moonloop.is_error(err, "InvalidStateError"))
      assert.matches("the TaskGroup is closed", err.message, 1, true)
    end)

    it("makes no task of a function it refuses", function()
      local before = #moonloop.all_tasks()
      in_group(function(tg)
        assert.is_false(pcall(tg.create_task, tg, { nme = "x" }, nap))
        assert.is_false(pcall(tg.create_task, tg, { name = "x" }, 5))
        assert.equal(before, #moonloop.all_tasks())
      end)
    end)
  end)
end

describe("A block with a TaskGroup", function()
  it("is left by break, after the children", function()
    local ended = 0
    for i = 1, 5 do
      local tg <close> = moonloop.TaskGroup()
      tg:create_task(function()
        nap()
        ended = ended + 1
      end)
      if i == 3 then break end
    end
    assert.equal(3, ended)
  end)

  it("is left by goto, after the children", function()
    local list = {}
    for i = 1, 3 do
      do
        local tg <close> = moonloop.TaskGroup()
        tg:create_task(function() list[#list + 1] = i end)
        if i == 2 then goto skip end
      end
      list[#list + 1] = "end of block"
      ::skip::
    end
    assert.same({ 1, "end of block", 2, 3, "end of block" }, list)
  end)

  it("is left by return from a loop inside it, with the values", function()
    local ended = false
    local function find()
      local tg <close> = moonloop.TaskGroup()
      for i = 1, 5 do
        tg:create_task(function()
          nap()
          ended = true
        end)
        if i == 3 then return i, "found" end
      end
    end
    assert.same({ 3, "found" }, { find() })
    assert.is_true(ended)
  end)

  it("closes its groups in turn, the last one first", function()
    local gate, list = moonloop.Future(), {}
    do
      local first <close> = moonloop.TaskGroup()
      local _ <close> = setmetatable({}, { __close = function() gate:set_result("first") end })
      local second <close> = moonloop.TaskGroup()
      first:create_task(function()
        local what = gate:await()
        list[#list + 1] = what
      end)
      second:create_task(function()
        nap()
        assert.is_false(gate:done())
        list[#list + 1] = "second"
      end)
    end
    assert.same({ "second", "first" }, list)
  end)
end)

describe("A TaskGroup", function()
  it("is shown with its name", function()
    local tg <close> = moonloop.TaskGroup { name = "workers" }
    local unnamed <close> = moonloop.TaskGroup()
    assert.matches("^TaskGroup", tostring(tg))
    assert.matches("workers", tostring(tg), 1, true)
    assert.matches("^TaskGroup", tostring(unnamed))
  end)

  it("takes tasks from any task while it is open", function()
    local list = {}
    do
      local tg <close> = moonloop.TaskGroup()
      local stranger = moonloop.create_task(function()
        tg:create_task(function()
          moonloop.sleep(0)
          list[#list + 1] = "child"
        end)
        list[#list + 1] = "stranger ended"
      end)
      stranger:await()
    end
    assert.same({ "stranger ended", "child" }, list)
  end)

  it("is waited for by nobody but its block", function()
    local gate, list = moonloop.Future(), {}
    local owner = tasks.start(function()
      local tg <close> = moonloop.TaskGroup()
      tg:create_task(function()
        gate:await()
        list[#list + 1] = "child"
      end)
      moonloop.sleep(0)
      list[#list + 1] = "body goes on"
    end)
    assert.same({ "body goes on" }, list)
    gate:set_result()
    owner:await()
    assert.same({ "body goes on", "child" }, list)
  end)
end)

describe("A child of a group", function()
  local var = moonloop.ContextVar("var", "default")

  local function inherited(body)
    local got
    local tg <close> = moonloop.TaskGroup()
    body(tg, function() got = var:get() end)
    testing.wait_all_blocked()
    return got
  end

  it("gets its arguments, and a name and a context by options", function()
    local tg <close> = moonloop.TaskGroup()
    local context = moonloop.copy_context()
    local child = tg:create_task({ name = "worker", context = context }, function(...)
      var:set("set by the child")
      return select("#", ...), ...
    end, 1, nil)
    assert.equal("worker", child:get_name())
    assert.equal(context, child:get_context())
    assert.same({ 2, 1, nil, n = 3 }, table.pack(child:await()))
    assert.equal("set by the child", context:get(var))
  end)

  it("may be anything that can be called", function()
    local callable = setmetatable({}, { __call = function(_, a) return a end })
    local tg <close> = moonloop.TaskGroup()
    assert.equal("v", tg:create_task(callable, "v"):await())
  end)

  it("runs at once with eager_start, up to its first wait", function()
    local list = {}
    local tg <close> = moonloop.TaskGroup()
    local child = tg:create_task({ eager_start = true }, function()
      list[1] = "started"
      moonloop.sleep(0)
      list[2] = "went on"
    end)
    assert.same({ "started" }, list)
    child:await()
    assert.same({ "started", "went on" }, list)
  end)

  it("starts with a copy of its creator's context", function()
    assert.equal("creator's", inherited(function(tg, look)
      local token = var:set("creator's")
      tg:create_task(look)
      var:reset(token)
    end))
    assert.equal("default", inherited(function(tg, look) tg:create_task(look) end))
  end)

  it("starts with the context of the task that made it, not of the opener", function()
    assert.equal("stranger's", inherited(function(tg, look)
      moonloop.await(function()
        var:set("stranger's")
        tg:create_task(look)
      end)
    end))
  end)

  it("keeps what it sets to itself and its own children", function()
    local grandchild
    do
      local tg <close> = moonloop.TaskGroup()
      tg:create_task(function()
        var:set("child's")
        tg:create_task(function() grandchild = var:get() end)
      end)
    end
    assert.equal("child's", grandchild)
    assert.equal("default", var:get())
  end)
end)

describe("A group", function()
  local function message(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_string(err)
    return err
  end

  it("is refused bad arguments", function()
    assert.matches("bad argument #1 to 'TaskGroup'", message(moonloop.TaskGroup, "x"), 1, true)
    local err = message(moonloop.TaskGroup, { nme = "x" })
    assert.matches("there is no option 'nme'; did you mean 'name'?", err, 1, true)
    assert.matches("bad argument #1 to 'task_group'", message(moonloop.task_group), 1, true)
    assert.matches("bad argument #1 to 'task_group'", message(moonloop.task_group, 5), 1, true)
  end)

  it("refuses bad arguments for a child", function()
    local tg <close> = moonloop.TaskGroup()
    local function refused(number, ...)
      assert.matches(("bad argument #%d to 'create_task' ("):format(number),
        message(tg.create_task, tg, ...), 1, true)
    end
    refused(1)
    for _, bad in ipairs { 5, "text", true } do refused(1, bad) end
    refused(2, {})
    refused(2, {}, 5)
    local err = message(tg.create_task, tg, { nme = "x" }, nap)
    assert.matches("there is no option 'nme'; did you mean 'name'?", err, 1, true)
  end)

  it("cannot be opened outside a task", function()
    for _, open in ipairs { moonloop.TaskGroup, function() moonloop.task_group(nap) end } do
      local outcome = moonloop.Future()
      moonloop.get_running_loop():call_soon(function() outcome:set_result(pcall(open)) end)
      local ok, err = outcome:await()
      assert.is_false(ok)
      assert.equal("Error", err.kind)
      assert.matches("no running task", err.message, 1, true)
    end
  end)
end)

describe("task_group", function()
  it("calls its function with the group in the calling task", function()
    local caller, task, kind = moonloop.current_task(), nil, nil
    moonloop.task_group(function(...)
      task = moonloop.current_task()
      kind = tostring((...))
      assert.equal(1, select("#", ...))
    end)
    assert.equal(caller, task)
    assert.matches("^TaskGroup", kind)
  end)

  it("takes anything that can be called", function()
    local callable = setmetatable({}, { __call = function(_, tg) return tg:create_task(nap) end })
    assert.is_true(moonloop.task_group(callable):done())
  end)
end)
