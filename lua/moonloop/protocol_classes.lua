-- SPDX-License-Identifier: MIT
-- Protocols as classes. A protocol may be any table; these give instances, and are
-- factories by themselves.

local options = require "moonloop.options"

local M = {}

local function new(class) return setmetatable({}, class) end

local function new_class(parent, members)
  local class = {}
  for name, member in pairs(members or {}) do class[name] = member end
  class.__index = class
  return setmetatable(class, {
    __index = parent,
    __call = function(self, ...) return self:new(...) end,
  })
end

local function extend(parent, members)
  if type(parent) ~= "table" or parent.new == nil then
    options.bad_self("extend", "protocol class", parent)
  end
  return new_class(parent, options.check_type(1, "extend", members, "table or nil"))
end

local function nothing() end

local function base(names)
  local members = { new = new, extend = extend }
  for _, name in ipairs(names) do members[name] = nothing end
  return new_class(nil, members)
end

--- A protocol: a table of functions that the loop calls for a connection. Those that
-- are missing do nothing.
-- `connection_made(self, transport)`, `data_received(self, data)`,
-- `eof_received(self)` (true keeps the writing side open),
-- `connection_lost(self, err)` (nil when it was closed in good order),
-- `pause_writing(self)`, `resume_writing(self)`.
-- @function Protocol:extend
-- @param[opt] members table of functions
-- @return a class: `Class:new()` makes an instance, and a class is a factory
-- @see asyncio.Protocol
M.Protocol = base { "connection_made", "data_received", "eof_received", "connection_lost",
  "pause_writing", "resume_writing" }

--- A protocol of datagrams: `connection_made(self, transport)`,
-- `datagram_received(self, data, addr)`, `error_received(self, err)`,
-- `connection_lost(self, err)`, `pause_writing(self)`, `resume_writing(self)`.
-- @function DatagramProtocol:extend
-- @param[opt] members table of functions
-- @return a class, as of `Protocol:extend`
-- @see asyncio.DatagramProtocol
M.DatagramProtocol = base { "connection_made", "datagram_received", "error_received",
  "connection_lost", "pause_writing", "resume_writing" }

return M
