-- SPDX-License-Identifier: MIT
-- Untaken errors and the collector: whenever a task that failed is collected,
-- its error is reported, once.
local stock = require "spec.support.stock"

describe("An untaken error", function()
  it("is reported once, wherever in its cycle the collector stands at the run's end", function()
    local status, out, err = stock.moonloop([[
      local moonloop = require "moonloop"
      local made, reported = 0, {}
      moonloop.get_running_loop():set_exception_handler(function(_, context)
        assert(not reported[context.error], "reported twice")
        reported[context.error] = true
      end)
      local function fail(number) error(number, 0) end
      collectgarbage("incremental", 100, 100, 8)
      for steps = 1, 100 do
        moonloop.run(function()
          for _ = 1, 200 do
            made = made + 1
            local number = made
            moonloop.create_task(function() fail(number) end)
          end
          moonloop.sleep(0)
          for _ = 1, steps do collectgarbage("step", 1) end
        end)
      end
      collectgarbage()
      collectgarbage()
      moonloop.sleep(0)
      print(made, #reported)
    ]])
    assert.equal("", err)
    assert.equal("20000\t20000\n", out)
    assert.equal(0, status)
  end)

  it("is reported when the collector takes it while the loop runs", function()
    local status, out, err = stock.moonloop([=[
      local moonloop = require "moonloop"
      local reported = {}
      moonloop.get_running_loop():set_exception_handler(function(_, context)
        reported[#reported + 1] = context.error
      end)
      collectgarbage("generational")
      for number = 1, 2000 do
        moonloop.create_task(function() error({ number }) end)
        moonloop.sleep(0)
      end
      collectgarbage()
      collectgarbage()
      moonloop.sleep(0)
      local seen = {}
      for _, err in ipairs(reported) do seen[err[1]] = true end
      print(#reported, #seen)
    ]=])
    assert.equal("", err)
    assert.equal("2000\t2000\n", out)
    assert.equal(0, status)
  end)
end)
