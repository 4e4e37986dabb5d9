-- SPDX-License-Identifier: MIT
-- Runs Lua code in a process of its own: under the stock `lua5.4` with
-- moonloop.so on its cpath, or under the command. Builds on command.lua and
-- script.lua; knows where the build left its files, judges nothing.
local command = require "spec.support.command"
local script = require "spec.support.script"

local M = {}

--- The folder the build left it in, without the last slash.
M.build = script.binary:match("^(.*)/[^/]*$")

-- A sanitized moonloop.so needs its runtime loaded before stock Lua's own libc.
local function stock_env()
  if not M.build:find("asan", 1, true) then return {} end
  local _, path = command.run({ "gcc", "-print-file-name=libasan.so" })
  return {
    LD_PRELOAD = path:gsub("%s+$", ""),
    ASAN_OPTIONS = os.getenv("ASAN_OPTIONS"),
  }
end

--- What stock Lua needs in its environment to load moonloop.so, as words for `env`.
function M.env()
  local words = {}
  for name, value in pairs(stock_env()) do words[#words + 1] = name .. "=" .. value end
  return table.concat(words, " ")
end

local function with_env(opts, env)
  local merged = { stdin = opts.stdin, timeout = opts.timeout or 60, env = env }
  for name, value in pairs(opts.env or {}) do env[name] = value end
  return merged
end

-- Runs `argv` behind a pipe; what is for stock Lua's environment is for none of the shell's.
local function run_piped(argv, opts)
  local words = { "/bin/sh", "-c", 'cat | exec env "$@"', "sh" }
  for name, value in pairs(stock_env()) do words[#words + 1] = name .. "=" .. value end
  table.move(argv, 1, #argv, #words + 1, words)
  return command.run(words, with_env(opts, {}))
end

--- Runs `args` of stock Lua with moonloop.so in reach.
-- @param opts command.run's, and `piped`: its standard input is a pipe, no file
-- @return status, stdout, stderr
function M.run(args, opts)
  local cpath = ("package.cpath = %q .. package.cpath"):format(M.build .. "/?.so;")
  local argv = { "lua5.4", "-e", cpath }
  table.move(args, 1, #args, #argv + 1, argv)
  if opts and opts.piped then return run_piped(argv, opts) end
  return command.run(argv, with_env(opts or {}, stock_env()))
end

--- Runs a piece of code under stock Lua.
-- @return status, stdout, stderr
function M.lua(code)
  return M.run({ "-" }, { stdin = code })
end

--- Runs a piece of code under the command.
-- @return status, stdout, stderr
function M.moonloop(code)
  return command.run({ script.binary, "-" }, { stdin = code, timeout = 60 })
end

--- Where a wait written as `code` ends when its task is closed from outside.
-- The wait stands in a deferred function, which no cancellation reaches, so the
-- end of the run has to close the task.
-- @return status, stdout, stderr
function M.closed(code)
  return M.lua(([[
    local moonloop = require "moonloop"
    local testing = moonloop.testing
    local runner = moonloop.Runner{shutdown_timeout = 0.01}
    runner:run(function()
      moonloop.create_task({name = "stubborn"}, function()
        local _ <close> = setmetatable({}, {__close = function() print("closed") end})
        local _ <close> = moonloop.defer(function()
          print("waiting")
          %s
          print("not reached")
        end)
      end)
      moonloop.sleep(0)
      moonloop.sleep(0)
    end)
    runner:close()
    print("after " .. tostring(testing ~= nil))
  ]]):format(code))
end

--- What `closed` prints when all is well.
M.closed_output = "waiting\nclosed\nafter true\n"

return M
