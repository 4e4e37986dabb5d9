-- SPDX-License-Identifier: MIT
-- Coroutines resumed and closed where they cannot be, also behind the host's
-- back by stock Lua's own functions: the task they belong to keeps its scopes,
-- or ends with an error that says why.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"

local REFUSED = "cannot resume non-suspended coroutine"

local function resume_running()
  return coroutine.resume((coroutine.running()))
end

local function inner_works()
  local ok, value = coroutine.resume(coroutine.create(function()
    return moonloop.sleep(0, "inner")
  end))
  return ok and value
end

describe("Resuming the coroutine that runs", function()
  it("is refused as in Lua, and inner coroutines work on", function()
    local task = moonloop.create_task(function()
      local ok, err = resume_running()
      return ok, err, inner_works()
    end)
    assert.same({ false, REFUSED, "inner" }, { task:await() })
  end)

  it("leaves the task cancellable", function()
    local task = tasks.start(function()
      resume_running()
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
  end)

  it("leaves a shield in force", function()
    local slept
    local task = tasks.start(function()
      local _ <close> = moonloop.defer(function()
        resume_running()
        slept = moonloop.sleep(0.001, "slept")
      end)
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
    assert.equal("slept", slept)
  end)

  it("is refused in a generator too, which goes on", function()
    local task = moonloop.create_task(function()
      local gen = coroutine.wrap(function()
        local _, err = resume_running()
        moonloop.sleep(0)
        coroutine.yield(err)
        coroutine.yield(inner_works())
      end)
      return gen(), gen()
    end)
    assert.same({ REFUSED, "inner" }, { task:await() })
  end)

  it("is refused by a function of wrap that calls itself", function()
    local gen
    gen = coroutine.wrap(function()
      local ok, err = pcall(gen)
      coroutine.yield(ok, err)
      return inner_works()
    end)
    local ok, err = gen()
    assert.is_false(ok)
    assert.matches(REFUSED, err, 1, true)
    assert.equal("inner", gen())
  end)
end)

describe("Resuming a coroutine that has resumed another", function()
  it("is refused as in Lua, and its task keeps its scopes", function()
    local said
    local task = tasks.start(function()
      local outer = coroutine.running()
      coroutine.wrap(function()
        local inner = coroutine.running()
        coroutine.wrap(function()
          said = { select(2, coroutine.resume(outer)), select(2, coroutine.resume(inner)) }
        end)()
      end)()
      moonloop.sleep_forever()
    end)
    assert.same({ REFUSED, REFUSED }, said)
    assert.is_true(tasks.cancel(task))
  end)
end)

-- Runs `code` under stock Lua inside a run; it leaves normally and says nothing
-- but what it prints.
local function prints(expected, code, head)
  local status, out, err = stock.lua((head or "") .. [[
    local moonloop = require "moonloop"
    local testing = moonloop.testing
    moonloop.run(function()
  ]] .. code .. "\nend)\nprint 'end'")
  assert.equal(expected .. "end\n", out)
  assert.equal(0, status)
  return err
end

describe("A task's coroutine closed by stock Lua", function()
  it("before the task's start fails the task, which says so", function()
    prints("true\nfalse\ttrue\n", [[
      local co
      moonloop.create_task(function() co = coroutine.running() end)
      moonloop.sleep(0)
      local task = moonloop.create_task(function() return 42 end)
      print(coroutine.close(co))
      local ok, err = pcall(task.await, task)
      print(ok, err == 42 or tostring(err):find("closed from outside", 1, true) ~= nil)
    ]])
  end)

  it("while the task waits closes its variables and fails the task", function()
    prints("closed\ntrue\nfalse\tthe task's coroutine was closed from outside\n", [[
      local co
      local task = moonloop.create_task(function()
        local _ <close> = setmetatable({}, {__close = function() print "closed" end})
        co = coroutine.running()
        moonloop.sleep(0.001)
      end)
      moonloop.sleep(0)
      print(coroutine.close(co))
      print(pcall(task.await, task))
    ]])
  end)
end)

describe("A task's coroutine resumed by stock Lua", function()
  it("before the task's start ends the task, and the others go on", function()
    prints("true\ton\n", [[
      local co
      moonloop.create_task(function() co = coroutine.running() end)
      moonloop.sleep(0)
      local task = moonloop.create_task(function() return 42 end)
      coroutine.resume(co)
      pcall(task.await, task)
      print(task:done(), moonloop.sleep(0, "on"))
    ]])
  end)

  it("while the task waits leaves it able to end", function()
    prints("true\ton\n", [[
      local co
      local task = moonloop.create_task(function()
        co = coroutine.running()
        moonloop.sleep(0.001)
      end)
      moonloop.sleep(0)
      coroutine.resume(co)
      pcall(task.await, task)
      print(task:done(), moonloop.sleep(0, "on"))
    ]])
  end)
end)

describe("An await below a coroutine function kept from before patch_coroutines", function()
  local HEAD = [[
    local wrap, create, resume = coroutine.wrap, coroutine.create, coroutine.resume
    require "moonloop".patch_coroutines()
  ]]

  it("is refused where it stands, and names patch_coroutines", function()
    prints("false\ttrue\tgen\non\n", [[
      local ok, named, last = wrap(function()
        local co = coroutine.create(function() moonloop.sleep(3600) end)
        local done, err = coroutine.resume(co)
        return done, tostring(err):find("patch_coroutines", 1, true) ~= nil, "gen"
      end)()
      print(ok, named, last)
      print(moonloop.sleep(0, "on"))
    ]], HEAD)
  end)

  it("leaves no timer behind when its task is collected", function()
    prints("false\n0\n", [[
      do
        local task = moonloop.create_task(function()
          return wrap(function()
            return (coroutine.resume(coroutine.create(function() moonloop.sleep(0.001) end)))
          end)()
        end)
        print(task:await())
      end
      collectgarbage() collectgarbage()
      moonloop.sleep(0.002)
      print(#testing.leaks())
    ]], HEAD)
  end)

  it("is refused in a coroutine that the kept resume resumes", function()
    prints("false\ttrue\n", [[
      local ok, err = resume(create(function() moonloop.sleep(0) end))
      print(ok, tostring(err):find("patch_coroutines", 1, true) ~= nil)
    ]], HEAD)
  end)
end)
