-- SPDX-License-Identifier: MIT
-- Context variables. The values of a context are a table that is never changed:
-- a set makes a new one, so that a task inherits by taking a reference.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local options = require "moonloop.options"

local M = {}

-- A Context holds such a table in `values`, and changes with every set made
-- while it is the current one.
local Context = {}
local context_mt = { __index = Context, __name = "moonloop.Context" }

local function is_context(value)
  return getmetatable(value) == context_mt
end

local function current_values()
  local context = core.get_context()
  if is_context(context) then return context.values end
  return context
end

local function set_values(values)
  local context = core.get_context()
  if is_context(context) then
    context.values = values
  else
    core.set_context(values)
  end
end

local function with(values, key, value)
  local copy = {}
  if values then
    for k, v in pairs(values) do copy[k] = v end
  end
  copy[key] = value
  return copy
end

local NIL = {} -- stands for a nil that was set

local ContextVar = {}
local var_mt = { __index = ContextVar, __name = "moonloop.ContextVar" }

function var_mt:__tostring()
  return ("ContextVar: '%s'"):format(self.name)
end

local Token = {}
local token_mt = { __index = Token, __name = "moonloop.Token" }

local function check_var(name, value)
  if getmetatable(value) ~= var_mt then
    options.bad_argument(1, name, "ContextVar expected, got " .. type(value))
  end
  return value
end

--- Makes a context variable.
-- @param name string
-- @param[opt] default any value: that of `get` where nothing was set
-- @return ContextVar
-- @see contextvars.ContextVar
function M.ContextVar(name, ...)
  options.check_type(1, "ContextVar", name, "string")
  return setmetatable({ name = name, default = (...), has_default = select("#", ...) > 0 },
    var_mt)
end

--- Gives the value in the current context.
-- @function ContextVar:get
-- @param[opt] default any value, returned where nothing was set
-- @return the value, else `default`, else the variable's own default, else nil
-- @see contextvars.ContextVar.get
function ContextVar:get(...)
  check_var("get", self)
  local values = current_values()
  local value = values and values[self]
  if value == NIL then return nil end
  if value ~= nil then return value end
  if select("#", ...) > 0 then return (...) end
  return self.default
end

--- Sets it in the current context: the task's own, or the callback's.
-- @function ContextVar:set
-- @param value any, also nil
-- @return token for `reset`
-- @see contextvars.ContextVar.set
function ContextVar:set(value)
  check_var("set", self)
  local values = current_values()
  local token = setmetatable({ var = self, old = values and values[self],
    context = core.get_context_owner() }, token_mt)
  if value == nil then value = NIL end
  set_values(with(values, self, value))
  return token
end

--- Puts back what was there before the `set` that gave the token.
-- @function ContextVar:reset
-- @param token what `set` returned
-- @raise Error when the token is another variable's, of another context, or used
-- @see contextvars.ContextVar.reset
function ContextVar:reset(token)
  check_var("reset", self)
  if getmetatable(token) ~= token_mt then
    options.bad_argument(1, "reset", "token expected, got " .. type(token))
  end
  if token.var ~= self then core.raise("Error", "the token is of another ContextVar") end
  if token.used then core.raise("Error", "the token was used already") end
  if token.context ~= core.get_context_owner() then
    core.raise("Error", "the token was made in another context")
  end
  token.used = true
  set_values(with(current_values(), self, token.old))
end

--- Copies the current context.
-- @return Context
-- @see contextvars.copy_context
function M.copy_context()
  return setmetatable({ values = current_values() }, context_mt)
end

local function check_context(name, value)
  if not is_context(value) then
    options.bad_argument(1, name, "Context expected, got " .. type(value))
  end
  return value
end

local function leave(self, previous, ...)
  self.entered = false
  core.set_context(previous)
  return ...
end

--- Runs `fn(...)` in this context: what it sets stays in it. Awaits if `fn` does.
-- @function Context:run
-- @param fn function, or anything that can be called
-- @param ... its arguments
-- @return what `fn` returns
-- @raise what `fn` raises; InvalidStateError while another call runs in it
-- @see contextvars.Context.run
function Context:run(fn, ...)
  check_context("run", self)
  options.check_callable(1, "run", fn)
  if self.entered then core.raise("InvalidStateError", "the context is entered already") end
  local previous = core.get_context()
  self.entered = true
  core.set_context(self)
  local _ <close> = blocks.on_leaving(function() leave(self, previous) end)
  return fn(...)
end

--- Gives a variable's value in this context.
-- @function Context:get
-- @param var ContextVar
-- @return the value, else the variable's default, else nil
-- @see contextvars.Context.get
function Context:get(var)
  check_context("get", self)
  check_var("get", var)
  local value = self.values and self.values[var]
  if value == NIL then return nil end
  if value == nil then return var.default end
  return value
end

M.is_context = is_context

--- Gives a task's context: the one it was given, or a copy of what it has.
-- @function Task:get_context
-- @return Context
-- @see asyncio.Task.get_context
function M.context_of(task)
  local context = core.context_of(task)
  if is_context(context) then return context end
  return setmetatable({ values = context }, context_mt)
end

return M
