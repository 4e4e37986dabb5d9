-- SPDX-License-Identifier: MIT
-- Where an await cannot pass: C functions that cannot be suspended, and what
-- <close> variables may await while an error unwinds.
local moonloop = require "moonloop"
local script = require "spec.support.script"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"

local function nap() moonloop.sleep(0) end

-- The message of the error that `fn` fails with in a task of its own.
local function refusal(fn)
  return tostring(tasks.failure(fn))
end

describe("An await across a C function that cannot be suspended", function()
  local awaiting_index = setmetatable({}, {
    __index = function() nap() return 1 end,
    __len = function() return 2 end,
  })

  it("names table.sort", function()
    assert.matches("sort", refusal(function()
      table.sort({ 3, 2, 1 }, function(a, b) nap() return a < b end)
    end))
  end)

  it("names string.gsub", function()
    assert.matches("gsub", refusal(function()
      string.gsub("abc", "%w", function() nap() return "x" end)
    end))
  end)

  for name, call in pairs {
    move_on_after = function() moonloop.move_on_after(1, nap) end,
    shield = function() moonloop.shield(nap) end,
    ["CancelScope:run"] = function() moonloop.CancelScope({}):run(nap) end,
    task_group = function() moonloop.task_group(nap) end,
    gather = function() moonloop.gather(nap) end,
  } do
    it("names string.gsub, and not the " .. name .. " in it", function()
      assert.matches("suspended: string.gsub", refusal(function()
        string.gsub("abc", "%w", call)
      end), 1, true)
    end)
  end

  it("names what ipairs calls", function()
    local message = refusal(function()
      for i in ipairs(awaiting_index) do
        if i == 3 then break end
      end
    end)
    assert.truthy(message:find("ipairs", 1, true) or message:find("for iterator", 1, true), message)
  end)

  it("names table.concat and table.unpack", function()
    assert.matches("concat", refusal(function() return (table.concat(awaiting_index, ",")) end))
    assert.matches("unpack", refusal(function() return (table.unpack(awaiting_index)) end))
  end)

  it("names tostring and string.format", function()
    local shy = setmetatable({}, { __tostring = function() nap() return "shy" end })
    assert.matches("tostring", refusal(function() return (tostring(shy)) end))
    assert.matches("format", refusal(function() return (string.format("%s", shy)) end))
  end)

  it("names load, whose reader it is", function()
    local message = refusal(function()
      local ok, err = load(function() nap() end)
      error(ok or err, 0)
    end)
    assert.matches("load", message)
  end)

  it("names require, at the top level of a module", function()
    package.preload["spec.awaiting"] = function() nap() end
    finally(function() package.preload["spec.awaiting"] = nil end)
    assert.matches("require", refusal(function() require "spec.awaiting" end))
  end)

  it("names the finalizer in __gc", function()
    local message
    tasks.outcome(moonloop.create_task(function()
      setmetatable({}, { __gc = function()
        local _, err = pcall(moonloop.sleep, 0)
        message = tostring(err)
      end })
      collectgarbage()
      collectgarbage()
    end))
    assert.matches("__gc", message)
  end)

  it("is refused in xpcall's message handler", function()
    local seen
    tasks.outcome(moonloop.create_task(function()
      xpcall(error, function()
        local ok, err = pcall(moonloop.sleep, 0)
        seen = not ok and tostring(err)
      end)
    end))
    assert.is_string(seen)
  end)

  it("names the first of them from the await outward", function()
    assert.matches("gsub", refusal(function()
      table.sort({ 2, 1 }, function()
        string.gsub("a", "a", function() nap() end)
      end)
    end))
  end)

  it("is refused in the same way inside a generator", function()
    assert.matches("sort", refusal(function()
      coroutine.wrap(function()
        nap()
        table.sort({ 2, 1 }, function() nap() end)
      end)()
    end))
  end)

  it("leaves its task able to go on", function()
    local task = moonloop.create_task(function()
      local ok = pcall(string.gsub, "a", "a", nap)
      return ok, moonloop.sleep(0, "on")
    end)
    assert.same({ false, "on" }, { moonloop.await(task) })
  end)

  it("leaves no task and no timer behind", function()
    local before = #moonloop.testing.leaks()
    refusal(function()
      string.gsub("a", "a", function() moonloop.sleep(60) end)
    end)
    refusal(function()
      string.gsub("a", "a", function() moonloop.await(function() moonloop.sleep_forever() end) end)
    end)
    moonloop.testing.wait_all_blocked()
    assert.equal(before, #moonloop.testing.leaks())
  end)
end)

describe("An await in a task that is being closed", function()
  it("is refused by every awaiting function, which says so", function()
    local reports <close> = tasks.reports()
    local said = {}
    local task = tasks.start(function()
      local _ <close> = setmetatable({}, { __close = function()
        for _, fn in ipairs({
          function() moonloop.sleep(1) end,
          function() moonloop.sleep(0) end,
          function() moonloop.sleep_forever() end,
          function() moonloop.Future():await() end,
          function() moonloop.await(moonloop.sleep_forever) end,
          function() moonloop.run(moonloop.sleep, 0) end,
          function() moonloop.connect("127.0.0.1", 9) end,
        }) do
          local ok, err = pcall(fn)
          said[#said + 1] = not ok and tostring(err)
        end
      end })
      while true do pcall(moonloop.sleep_forever) end
    end)
    task:cancel()
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.equal(7, #said)
    for _, message in ipairs(said) do assert.matches("being closed", message, 1, true) end
    assert.equal(1, #reports)
  end)

  it("is refused in a deferred function, which says so", function()
    local _, _, err = stock.closed([[
      local _ <close> = setmetatable({}, {__close = function()
        local ok, err = pcall(moonloop.sleep, 0)
        io.stderr:write(tostring(err), "\n")
      end})
      do local _ <close> = moonloop.defer(moonloop.sleep_forever) end
    ]])
    assert.matches("the task is being closed", err, 1, true)
  end)
end)

describe("An await where Lua can suspend", function()
  it("passes pcall, xpcall, iterators, metamethods and dofile", function()
    local folder <close> = script.folder()
    local path = folder:write("part.lua", [[
      require("moonloop").sleep(0)
      return "file"
    ]])
    local task = moonloop.create_task(function()
      local ok, a = pcall(moonloop.sleep, 0, "a")
      local ok2, b = xpcall(moonloop.sleep, debug.traceback, 0, "b")
      local function once(_, last)
        nap()
        if not last then return 1 end
      end
      local n = 0
      for _ in once do n = n + 1 end
      return ok and a, ok2 and b, n, dofile(path)
    end)
    assert.same({ "a", "b", 1, "file" }, { moonloop.await(task) })
  end)

  it("reaches code made by load", function()
    local chunk = load([[return (require "moonloop").sleep(0, "chunk")]])
    assert.equal("chunk", moonloop.await(moonloop.create_task(chunk)))
  end)
end)

describe("An awaiting <close> variable", function()
  local function closer(list, what)
    return setmetatable({}, { __close = function(_, err)
      nap()
      list[#list + 1] = { what, err }
    end })
  end

  it("runs to its end when a block is left in any way", function()
    local list = {}
    local task = moonloop.create_task(function()
      do local _ <close> = closer(list, "end") end
      for i = 1, 2 do
        local _ <close> = closer(list, "break")
        if i == 1 then break end
      end
      local function leave()
        local _ <close> = closer(list, "return")
        return 1, nil, 3
      end
      return leave()
    end)
    assert.same({ 1, nil, 3, n = 3 }, table.pack(moonloop.await(task)))
    assert.same({ { "end" }, { "break" }, { "return" } }, list)
  end)

  it("runs to its end while an error unwinds the task", function()
    local list = {}
    assert.equal("boom", tasks.failure(function()
      local _ <close> = closer(list, "outer")
      local _ <close> = closer(list, "inner")
      error("boom", 0)
    end))
    assert.same({ { "inner", "boom" }, { "outer", "boom" } }, list)
  end)

  it("runs to its end while an error unwinds a wrapped generator", function()
    local list = {}
    local task = moonloop.create_task(function()
      local gen = coroutine.wrap(function()
        local _ <close> = closer(list, "generator")
        nap()
        error({ "boom" })
      end)
      local ok, err = pcall(gen)
      return ok, err[1]
    end)
    assert.same({ false, "boom" }, { moonloop.await(task) })
    assert.equal("generator", list[1][1])
    assert.same({ "boom" }, list[1][2])
  end)

  it("raises when a coroutine made by create is closed after an error", function()
    local said
    local task = moonloop.create_task(function()
      local co = coroutine.create(function()
        local _ <close> = setmetatable({}, { __close = function()
          local ok, err = pcall(moonloop.sleep, 0)
          said = not ok and tostring(err)
        end })
        error("boom", 0)
      end)
      local failed, message = coroutine.resume(co)
      coroutine.close(co)
      return failed, message
    end)
    local ok, err = moonloop.await(task)
    assert.is_false(ok)
    assert.equal("boom", err)
    assert.matches("coroutine.close", said, 1, true)
  end)

  it("runs to its end when a for loop over it is left", function()
    local list = {}
    local task = moonloop.create_task(function()
      for value in function(_, last) return (last or 0) + 1 end, nil, nil, closer(list, "for") do
        if value == 2 then break end
      end
      return #list
    end)
    assert.equal(1, moonloop.await(task))
  end)

  it("raises in coroutine.close, which cannot be suspended", function()
    local message
    tasks.outcome(moonloop.create_task(function()
      local co = coroutine.create(function()
        local _ <close> = setmetatable({}, { __close = function()
          local _, err = pcall(moonloop.sleep, 0)
          message = tostring(err)
        end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      coroutine.close(co)
    end))
    assert.matches("close", message)
  end)

  it("may replace the error in flight with its own", function()
    assert.equal("second", tasks.failure(function()
      local _ <close> = setmetatable({}, { __close = function()
        nap()
        error("second", 0)
      end })
      error("first", 0)
    end))
  end)
end)
