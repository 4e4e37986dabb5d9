-- SPDX-License-Identifier: MIT
-- What the `moonloop` command does once its flags are read: LUA_INIT, -e, -l and
-- the script are run one after the other in the main task, and an error that
-- nobody caught is told on stderr.

local core = require "moonloop.core"
local run = require "moonloop.run"

local M = {}

-- What is wrong with the command line or a file that cannot be loaded: told
-- without a traceback, which would be that of this file.
local complaint_mt = {}

local function complain(message)
  error(setmetatable({ message = message }, complaint_mt), 0)
end

-- Each kind of action: what it does with its text.
local actions = {}

function actions.init(text, name)
  local chunk, message
  if text:sub(1, 1) == "@" then
    chunk, message = loadfile(text:sub(2))
  else
    chunk, message = load(text, "=" .. name)
  end
  if not chunk then complain(message) end
  chunk()
end

function actions.execute(text)
  local chunk, message = load(text, "=(command line)")
  if not chunk then complain(message) end
  chunk()
end

function actions.library(text)
  local global, module = text:match("^([^=]*)=(.*)$")
  if not global then global, module = text, text end
  _G[global] = require(module)
end

function actions.warn() warn("@on") end

-- The script's chunk, not run yet.
local function load_script(script)
  if script.kind == "file" then return loadfile(script.name) end
  if script.kind == "stdin" then return loadfile() end
  local path, message = package.searchpath(script.name, package.path)
  if not path then
    return nil, ("module '%s' not found:%s"):format(script.name, message:gsub("^\n?", "\n\t", 1))
  end
  _G.arg[0] = path
  return loadfile(path)
end

-- The chunk is the last thing called, so nothing of this file is in its stack.
local function main(plan)
  for _, action in ipairs(plan.actions) do actions[action.kind](action.text, action.name) end
  if not plan.script then return end
  local chunk, message = load_script(plan.script)
  if not chunk then complain(message) end
  chunk(table.unpack(plan.arguments, 1, plan.arguments.n))
end

local function print_error(err, task)
  io.stdout:flush()
  if getmetatable(err) == complaint_mt then
    io.stderr:write("moonloop: ", err.message, "\n")
    return
  end
  local traceback = task and core.traceback_of(task) or core.traceback_of_error(err)
  io.stderr:write("moonloop: ", core.text_of(err), "\n")
  if type(traceback) == "string" then io.stderr:write(traceback, "\n") end
end

-- Runs the plan. Returns the exit status.
function M.run(plan)
  local task
  run.is_command = true
  local ok, err = pcall(run.run, function()
    task = core.current_task()
    return main(plan)
  end)
  local status = run.take_exit_status()
  if status ~= nil then return status end
  if ok then return 0 end
  if plan.interrupted() and core.is_error(err, "CancelledError") then
    io.stdout:flush()
    io.stderr:write("moonloop: interrupted\n")
    return 130
  end
  print_error(err, task)
  return 1
end

return M
