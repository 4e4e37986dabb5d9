-- SPDX-License-Identifier: MIT
-- Async specs in busted: testing.async under stock Lua, and the helper under the
-- command. Each spec writes a spec file and runs busted on it.
local command = require "spec.support.command"
local script = require "spec.support.script"
local stock = require "spec.support.stock"

local _, busted_path = command.run({ "sh", "-c", "command -v busted" })
busted_path = busted_path:gsub("%s+$", "")

-- Runs busted on `source`; `runner` runs its arguments as a Lua would.
local function busted(runner, source, ...)
  local folder <close> = script.folder()
  local path = folder:write("some_spec.lua", source)
  local config = folder:write("config.lua", "return {}")
  local args = { busted_path, "-f", config, "-o", "plainTerminal", ... }
  args[#args + 1] = path
  return runner(args)
end

local function under_stock(source, ...)
  return busted(stock.run, 'local moonloop = require "moonloop"\n' ..
    "local async = moonloop.testing.async\n" .. source, ...)
end

local function under_command(source, ...)
  return busted(function(args)
    return command.run({ script.binary, table.unpack(args) }, { timeout = 60 })
  end, 'local moonloop = require "moonloop"\n' .. source, ...)
end

describe("testing.async under stock Lua", function()
  it("runs a body as a task that may await", function()
    local status, out = under_stock([[
      it("awaits", async(function()
        assert.equal("v", moonloop.sleep(0.001, "v"))
        assert.is_not_nil(moonloop.current_task())
      end))
    ]])
    assert.equal(0, status, out)
    assert.matches("1 success", out)
  end)

  it("runs before_each and after_each bodies too", function()
    local status, out = under_stock([[
      local list = {}
      before_each(async(function() list[#list + 1] = moonloop.sleep(0, "before") end))
      after_each(async(function() list[#list + 1] = moonloop.sleep(0, "after") end))
      it("first", function() assert.same({ "before" }, list) end)
      it("second", function() assert.same({ "before", "after", "before" }, list) end)
    ]])
    assert.equal(0, status, out)
    assert.matches("2 successes", out)
  end)

  it("makes a failed assertion a failure at its line, an error an error", function()
    local status, out = under_stock([[
      it("fails", async(function()
        moonloop.sleep(0)
        assert.equal(1, 2)
      end))
      it("breaks", async(function()
        moonloop.sleep(0)
        error("broken")
      end))
    ]])
    assert.not_equal(0, status)
    assert.matches("1 failure", out)
    assert.matches("1 error", out)
    assert.matches("some_spec%.lua:5", out)
    assert.matches("broken", out)
  end)

  it("ends a body that takes too long, whose clean-up runs", function()
    local status, out = under_stock([[
      it("hangs", async(function()
        local _ <close> = setmetatable({}, {__close = function() print "cleaned" end})
        moonloop.sleep_forever()
      end, {timeout = 0.02}))
      it("goes on", async(function() moonloop.sleep(0) end))
    ]])
    assert.not_equal(0, status)
    assert.matches("cleaned", out)
    assert.matches("1 success /", out)
    assert.matches("TimeoutError", out)
  end)

  it("gives the body a virtual clock when asked", function()
    local status, out = under_stock([[
      it("sleeps a day", async(function()
        local before = moonloop.time()
        moonloop.sleep(86400)
        assert.is_true(moonloop.time() - before >= 86400)
      end, {virtual_clock = true}))
    ]])
    assert.equal(0, status, out)
  end)

  it("gives each body a run of its own, which ends with it", function()
    local _, out = under_stock([[
      it("leaves a task", async(function()
        moonloop.create_task(moonloop.sleep_forever)
        moonloop.sleep(0)
      end))
      it("sees none of it", async(function() print("tasks: " .. #moonloop.all_tasks()) end))
    ]])
    assert.matches("tasks: 1\n", out)
  end)
end)

describe("busted under the command", function()
  it("lets every body await as it is", function()
    local status, out = under_command([[
      local list = {}
      setup(function() list[#list + 1] = moonloop.sleep(0, "setup") end)
      before_each(function() list[#list + 1] = moonloop.sleep(0, "before") end)
      it("awaits", function()
        finally(function() moonloop.sleep(0) end)
        assert.same({ "setup", "before" }, list)
        assert.equal("v", moonloop.sleep(0.001, "v"))
      end)
    ]])
    assert.equal(0, status, out)
  end)

  it("keeps busted's exit status and its report of a failure", function()
    local status, out = under_command([[
      it("fails", function()
        moonloop.sleep(0)
        assert.equal(1, 2)
      end)
    ]])
    assert.equal(1, status)
    assert.matches("1 failure", out)
    assert.matches("some_spec%.lua:4", out)
  end)

  it("runs by busted --lua as well", function()
    local folder <close> = script.folder()
    local path = folder:write("some_spec.lua", [[
      local moonloop = require "moonloop"
      it("awaits", function() assert.equal("v", moonloop.sleep(0, "v")) end)
    ]])
    local status, out = command.run({
      busted_path, "--lua=" .. script.binary, "-f", folder:write("config.lua", "return {}"), path,
    })
    assert.equal(0, status, out)
  end)
end)

describe("The busted helper", function()
  local helper = "--helper=moonloop.testing.busted"

  it("passes specs that leave nothing behind", function()
    local status, out = under_command([[
      it("is clean", function()
        moonloop.await(moonloop.create_task(moonloop.sleep, 0))
        moonloop.get_running_loop():call_later(3600, print):cancel()
      end)
    ]], helper)
    assert.equal(0, status, out)
  end)

  it("fails a spec that leaves a task, by its name, and no other", function()
    local status, out = under_command([[
      it("leaves a task", function()
        moonloop.create_task({name = "forgotten-one"}, moonloop.sleep_forever)
      end)
      it("is clean", function() moonloop.sleep(0) end)
    ]], helper)
    assert.not_equal(0, status)
    assert.matches("forgotten%-one", out)
    assert.matches("the spec 'leaves a task' left open", out, 1, true)
    assert.matches("2 successes / 0 failures / 1 error", out, 1, true)
  end)

  it("fails a spec that leaves a timer", function()
    local status, out = under_command([[
      it("leaves a timer", function()
        moonloop.get_running_loop():call_later(3600, print)
      end)
    ]], helper)
    assert.not_equal(0, status)
    assert.matches("some_spec%.lua", out)
  end)

  it("works under stock Lua as well", function()
    local status, out = under_stock([[
      it("is clean", async(function() moonloop.sleep(0) end))
      it("is plain", function() assert.is_true(true) end)
    ]], helper)
    assert.equal(0, status, out)
  end)
end)
