-- SPDX-License-Identifier: MIT
-- The frames that tracebacks show: the program's own, the library's functions by
-- their public names, and each task's own even where two fail with equal values.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local net = require "spec.support.net"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

-- What `code` prints to standard error under the command, as `script.lua`.
local function complaint(code)
  local _, _, err = script.run('local moonloop = require "moonloop"\n' .. code)
  return err
end

describe("A function of the library in a traceback", function()
  it("has its public name, whatever the order of tables", function()
    -- The hash seed differs from process to process.
    local pattern = "in function '(moonloop[%w_.]*)'"
    for _ = 1, 12 do
      local _, out = command.run({ script.binary, "-e", [[
        local task = moonloop.create_task(function() moonloop.sleep(3600) end)
        moonloop.sleep(0)
        print(task:get_stack())
      ]] })
      assert.equal("moonloop.sleep", out:match(pattern))
    end
  end)

  it("stands for all that it calls inside the library", function()
    local err = complaint(([[
      local function visit() moonloop.connect("127.0.0.1", %d) return 1 end  -- line 2
      visit()  -- line 3
    ]]):format(net.free_port()))
    local trace = err:match("stack traceback:\n(.*)")
    assert.equal("\t[moonloop]: in function 'moonloop.connect'\n" ..
      "\tscript.lua:2: in local 'visit'\n\tscript.lua:3: in main chunk\n", trace)
  end)

  it("is not shown where it only runs a deferred function", function()
    local err = complaint([[
      local function visit()
        local _ <close> = moonloop.defer(function() error("in defer") end)  -- line 3
        return 1
      end
      visit()  -- line 6
    ]])
    assert.matches("script.lua:3: in defer", err, 1, true)
    assert.is_nil(err:find("'run'", 1, true))
    assert.is_nil(err:find("moonloop/", 1, true))
  end)
end)

describe("Tasks that fail with equal strings", function()
  it("are reported each with its own frames and creation", function()
    local err = complaint([[
      moonloop.create_task(error, "same", 0) moonloop.sleep(0)  -- line 2
      moonloop.create_task(function()  -- line 3
        local function deep() error("same", 0) end  -- line 4
        deep()  -- line 5
      end)
      moonloop.sleep(0)
    ]])
    local first = err:match("error in task 'Task%-2'.-created at script.lua:%d+")
    local second = err:match("error in task 'Task%-3'.-created at script.lua:%d+")
    assert.matches("created at script.lua:2$", first)
    assert.is_nil(first:find("script.lua:4", 1, true))
    assert.matches("script.lua:4: in .*script.lua:5: in .*created at script.lua:3$", second)
  end)

  it("are told apart for the exception handler", function()
    local reports <close> = tasks.reports()
    local function left() error("same", 0) end
    local function right() error("same", 0) end
    tasks.start({ name = "left" }, left)
    tasks.start({ name = "right" }, right)
    collectgarbage()
    collectgarbage()
    moonloop.testing.wait_all_blocked()
    assert.equal(2, #reports)
    for _, context in ipairs(reports) do
      local name = context.task:get_name()
      assert.matches(name, context.traceback, 1, true)
      assert.is_nil(context.traceback:find(name == "left" and "right" or "left", 1, true))
    end
  end)
end)

describe("An error in the handler of a connection", function()
  it("is reported with stream, task and the handler's traceback", function()
    local reports <close> = tasks.reports()
    local line = debug.getinfo(1, "l").currentline + 1
    local function failing_handler() error({ "h" }) end
    local server <close> = moonloop.start_server(failing_handler, "127.0.0.1", 0)
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    client:read()
    assert.equal(1, #reports)
    local context = reports[1]
    assert.same({ "h" }, context.error)
    assert.matches("^Stream", tostring(context.stream))
    assert.matches("^Task", tostring(context.task))
    assert.matches("tracebacks_spec.lua:" .. line .. ": in ", context.traceback, 1, true)
  end)
end)
