-- SPDX-License-Identifier: MIT
-- Checking of options tables: an option that does not exist raises, naming it
-- and the nearest one that does.

local core = require "moonloop.core"

local M = {}

-- Raises on behalf of the function that the user called, at the user's line.
local function refuse(text, ...)
  error(core.caller() .. text:format(...), 0)
end

-- How many single edits lead from one word to the other.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal, left = row[0], i
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      left = math.min(row[j] + 1, left + 1, diagonal + cost)
      diagonal, row[j] = row[j], left
    end
  end
  return row[#b]
end

local function nearest(word, known)
  local best, best_distance
  for name in pairs(known) do
    local d = distance(word, name)
    if not best or d < best_distance or (d == best_distance and name < best) then
      best, best_distance = name, d
    end
  end
  return best
end

--- Gives the word among the keys of `known` that is most like another one.
M.nearest = nearest

-- Raises a bad argument error on behalf of the function that the user called.
function M.bad_argument(position, name, text)
  refuse("bad argument #%d to '%s' (%s)", position, name, text)
end

local function type_name(value)
  local mt = getmetatable(value)
  local name = type(mt) == "table" and rawget(mt, "__name")
  return type(name) == "string" and name or type(value)
end

M.type_name = type_name

-- Whether a type is among those in words: "string or nil".
local function is_one_of(name, words)
  for choice in words:gmatch("[%w_]+") do
    if choice == name then return true end
  end
  return false
end

-- Raises unless `value` is of a type; `expected` may list several: "string or nil".
function M.check_type(position, name, value, expected)
  local actual = type(value)
  if is_one_of(actual, expected) then return value end
  if actual == "nil" then actual = "no value" else actual = type_name(value) end
  refuse("bad argument #%d to '%s' (%s expected, got %s)", position, name, expected, actual)
end

--- Raises unless `seconds` is a number of them.
function M.check_seconds(position, name, seconds)
  if type(seconds) ~= "number" then
    M.bad_argument(position, name, "number expected, got " .. type_name(seconds))
  end
  if seconds ~= seconds then M.bad_argument(position, name, "not a number of seconds (nan)") end
  return seconds
end

--- Raises unless an option is nil or a number of seconds, 0 or more.
function M.check_duration(position, name, option, seconds)
  if seconds == nil or type(seconds) == "number" and seconds >= 0 then return seconds end
  M.bad_argument(position, name, ("option '%s': a number of seconds expected, got %s")
    :format(option, type(seconds) == "number" and tostring(seconds) or type_name(seconds)))
end

--- Raises unless the option `timeout` is nil or a number of seconds.
function M.check_timeout(position, name, seconds)
  if seconds ~= seconds then
    M.bad_argument(position, name, "option 'timeout': a number of seconds expected, got nan")
  end
end

--- Gives a number of seconds in words.
function M.seconds(seconds)
  return (seconds < 1000 and "%.3g s" or "%.0f s"):format(math.max(0, seconds))
end

function M.is_callable(value)
  if type(value) == "function" then return true end
  local mt = getmetatable(value)
  return type(mt) == "table" and mt.__call ~= nil
end

function M.check_callable(position, name, value)
  if M.is_callable(value) then return value end
  local actual = value == nil and "no value" or type_name(value)
  refuse("bad argument #%d to '%s' (function expected, got %s)", position, name, actual)
end

--- Gives a table of options like `known` that has more of them.
function M.with(known, more)
  local all = {}
  for _, list in ipairs { known, more } do
    for name, kind in pairs(list) do all[name] = kind end
  end
  return all
end

--- Whether a value is an object with that table of methods.
function M.has_methods(value, methods)
  local mt = getmetatable(value)
  return type(mt) == "table" and mt.__index == methods
end

--- Raises that a method was called on something else than `expected`.
function M.bad_self(name, expected, value)
  refuse("calling '%s' on bad self (%s expected, got %s)", name, expected, type_name(value))
end

-- Checks an options table against `known`, a table of option name to the type
-- its value must have ("any" for no check). nil stands for no options.
function M.check(position, name, options, known)
  if options == nil then return {} end
  if type(options) ~= "table" then
    refuse("bad argument #%d to '%s' (table expected, got %s)", position, name,
      type_name(options))
  end
  for key, value in pairs(options) do
    local expected = known[key]
    if expected == nil then
      refuse("bad argument #%d to '%s' (there is no option '%s'; did you mean '%s'?)",
        position, name, tostring(key), nearest(tostring(key), known))
    end
    if expected ~= "any" and not is_one_of(type(value), expected) then
      refuse("bad argument #%d to '%s' (option '%s': %s expected, got %s)", position, name,
        key, expected, type_name(value))
    end
  end
  return options
end

return M
