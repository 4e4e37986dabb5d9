-- SPDX-License-Identifier: MIT
-- How a program ends: its status, os.exit and moonloop.exit, what becomes of the
-- tasks that are left and of what was written.
local script = require "spec.support.script"

local HEAD = 'local moonloop = require "moonloop"\n'

-- A script with a server, a sleeper and a timer pending, and then `ending`.
local function busy(ending)
  return HEAD .. [[
    local server = moonloop.start_server(function(stream) stream:read() end, "127.0.0.1", 0)
    local client = moonloop.connect("127.0.0.1", server:port())
    moonloop.create_task(function()
      local _ <close> = setmetatable({}, {__close = function() print("child cleaned") end})
      client:read(1)
    end)
    moonloop.create_task(moonloop.sleep_forever)
    moonloop.get_running_loop():call_later(60, print, "never")
    local _ <close> = setmetatable({}, {__close = function() print("main cleaned") end})
    moonloop.sleep(0)
    io.write("before ")
  ]] .. ending
end

describe("os.exit", function()
  it("ends the process now with its status, whatever is pending", function()
    local status, out, err = script.run(busy("os.exit(7)"))
    assert.same({ 7, "before ", "" }, { status, out, err })
  end)

  it("works from a child task", function()
    local status, out = script.run(busy([[
      moonloop.create_task(function() os.exit(9) end)
      moonloop.sleep_forever()
    ]]))
    assert.same({ 9, "before " }, { status, out })
  end)

  it("works from a callback", function()
    local status = script.run(busy([[
      moonloop.get_running_loop():call_soon(os.exit, 11)
      moonloop.sleep_forever()
    ]]))
    assert.equal(11, status)
  end)

  it("works from an inner coroutine", function()
    local status = script.run(busy([[
      coroutine.wrap(function() moonloop.sleep(0) os.exit(12) end)()
    ]]))
    assert.equal(12, status)
  end)

  it("takes true, false and nothing as Lua does", function()
    assert.equal(0, (script.run("os.exit(true)")))
    assert.equal(1, (script.run("os.exit(false)")))
    assert.equal(0, (script.run("os.exit()")))
  end)

  it("closes the state first when asked to, so finalizers run", function()
    local status, out = script.run([[
      kept = setmetatable({}, {__gc = function() print("finalized") end})
      os.exit(3, true)
    ]])
    assert.same({ 3, "finalized\n" }, { status, out })
  end)

  it("closes the state with everything pending", function()
    local status, out, err = script.run(busy("os.exit(4, true)"))
    assert.equal(4, status)
    assert.matches("^before ", out)
    assert.equal("", err)
  end)

  it("runs no finalizers otherwise", function()
    local status, out = script.run([[
      kept = setmetatable({}, {__gc = function() print("finalized") end})
      os.exit(0)
    ]])
    assert.same({ 0, "" }, { status, out })
  end)
end)

describe("moonloop.exit", function()
  it("unwinds the main task and the others first", function()
    local status, out, err = script.run(busy("moonloop.exit(7)"))
    assert.equal(7, status)
    assert.matches("main cleaned\n", out, 1, true)
    assert.matches("child cleaned\n", out, 1, true)
    assert.equal("", err)
  end)

  it("lets clean-up await", function()
    local status, out = script.run(HEAD .. [[
      local _ <close> = moonloop.defer(function() moonloop.sleep(0.001) print("cleaned") end)
      moonloop.exit(2)
    ]])
    assert.same({ 2, "cleaned\n" }, { status, out })
  end)

  it("works from a child task", function()
    local status, out, err = script.run(busy([[
      moonloop.create_task(function() moonloop.exit(5) end)
      moonloop.sleep_forever()
    ]]))
    assert.equal(5, status)
    assert.matches("main cleaned\n", out, 1, true)
    assert.equal("", err)
  end)

  it("ends with 0 when no status is given", function()
    local status, out = script.run(HEAD .. "moonloop.exit() print('not reached')")
    assert.same({ 0, "" }, { status, out })
  end)

  it("refuses a status that is no number", function()
    local status, out = script.run(HEAD .. "print(pcall(moonloop.exit, {}))")
    assert.equal(0, status)
    assert.matches("bad argument #1 to 'exit'", out, 1, true)
  end)
end)

describe("At the end of the script", function()
  it("tasks left over are cancelled and awaited", function()
    local status, out, err = script.run(HEAD .. [[
      for i = 1, 3 do
        moonloop.create_task(function()
          local _ <close> = moonloop.defer(function()
            moonloop.sleep(0.001 * i)
            print("cleaned", i)
          end)
          moonloop.sleep_forever()
        end)
      end
      moonloop.sleep(0)
      print("main ends")
    ]])
    assert.equal("main ends\ncleaned\t1\ncleaned\t2\ncleaned\t3\n", out)
    assert.same({ 0, "" }, { status, err })
  end)

  it("a task that never had its turn is no error", function()
    local status, out, err = script.run(HEAD .. [[
      moonloop.create_task(function() moonloop.sleep_forever() end)
    ]])
    assert.same({ 0, "", "" }, { status, out, err })
  end)

  it("tasks left over are cancelled after an error, too", function()
    local status, out, err = script.run(busy("error 'and yet'"))
    assert.equal(1, status)
    assert.matches("main cleaned\n", out, 1, true)
    assert.matches("child cleaned\n", out, 1, true)
    assert.matches("and yet", err, 1, true)
  end)

  it("timers that are pending do not keep the process", function()
    local status, out = script.run(HEAD .. [[
      moonloop.get_running_loop():call_later(3600, print, "an hour later")
    ]], { timeout = 10 })
    assert.same({ 0, "" }, { status, out })
  end)

  it("what was written to a buffered stdout is there", function()
    local status, out = script.run("io.stdout:setvbuf('full') io.write(('x'):rep(100000))")
    assert.equal(100000, #out)
    assert.equal(0, status)
  end)

  it("what was written is there after an error and after moonloop.exit", function()
    local _, out = script.run("io.stdout:setvbuf('full') io.write('kept') error 'x'")
    assert.equal("kept", out)
    local _, unwound = script.run(HEAD .. "io.stdout:setvbuf('full') io.write('kept') "
      .. "moonloop.exit(1)")
    assert.equal("kept", unwound)
  end)

  it("the state is closed, so finalizers run", function()
    local _, out = script.run([[
      kept = setmetatable({}, {__gc = function() print("finalized") end})
    ]])
    assert.equal("finalized\n", out)
  end)

  it("a task that refuses to end is reported and closed after shutdown_timeout #load", function()
    local status, out, err = script.run(HEAD .. [[
      moonloop.create_task({name = "stubborn"}, function()
        local _ <close> = setmetatable({}, {__close = function() print("closed") end})
        while true do
          pcall(moonloop.sleep_forever)  -- line 5
          moonloop.current_task():uncancel()
        end
      end)
      moonloop.sleep(0)
    ]], { timeout = 60 })
    assert.equal("closed\n", out)
    assert.matches("stubborn", err, 1, true)
    assert.matches("script.lua:5:", err, 1, true)
    assert.equal(0, status)
  end)
end)
