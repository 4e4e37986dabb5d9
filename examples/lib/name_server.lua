-- SPDX-License-Identifier: MIT
-- A small name server, so that the examples can look up names without a network. It answers one
-- question to a datagram, from a table. Builds on moonloop's datagrams.
--
-- The table has names, and for each name either what it has, by type ({A = {{host=, ttl=}, ...},
-- MX = ...}, with the fields that moonloop.dns.resolve gives), or a status such as "SERVFAIL", or
-- "silence". A name that is not in it does not exist.
local moonloop = require "moonloop"

local M = {}

local TYPES = { A = 1, NS = 2, CNAME = 5, PTR = 12, MX = 15, TXT = 16, AAAA = 28, SRV = 33 }
local STATUSES = { FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5 }
local ANSWER, AUTHORITATIVE = 0x8000, 0x0400
local CLASS = 1 -- the Internet

local function pack_name(name)
  return name:gsub("([^.]+)%.?", function(label) return ("s1"):pack(label) end) .. "\0"
end

local PACK = {
  A = function(record)
    return record.host:gsub("(%d+)%.?", function(byte) return string.char(byte) end)
  end,
  NS = function(record) return pack_name(record.host) end,
  MX = function(record) return (">I2"):pack(record.preference) .. pack_name(record.host) end,
  TXT = function(record) return ("s1"):pack(record.text) end,
  SRV = function(record)
    return (">I2I2I2"):pack(record.priority, record.weight, record.port) .. pack_name(record.host)
  end,
}
PACK.CNAME, PACK.PTR = PACK.NS, PACK.NS

local function pack_record(name, kind, record)
  local data = PACK[kind](record)
  return pack_name(name) .. (">I2I2I4s2"):pack(TYPES[kind], CLASS, record.ttl or 60, data)
end

local MOST_ALIASES = 3 -- in one answer: they may go in a circle

-- Appends what the zone has for the name, and for the name that this one is an alias of.
local function collect(zone, name, kind, list)
  local entry = zone[name]
  if type(entry) == "string" then
    return entry
  elseif not entry then
    return "NXDOMAIN"
  end
  for _, record in ipairs(entry[kind] or {}) do
    list[#list + 1] = pack_record(name, kind, record)
  end
  local alias = kind ~= "CNAME" and entry.CNAME
  if alias and #list < MOST_ALIASES then
    list[#list + 1] = pack_record(name, "CNAME", alias[1])
    return collect(zone, alias[1].host, kind, list)
  end
end

-- The question of a query: the name, the type, and the bytes that hold it.
local function read_question(query)
  local labels, at, label = {}, 13
  repeat
    label, at = ("s1"):unpack(query, at)
    labels[#labels + 1] = label
  until label == ""
  local number = (">I2"):unpack(query, at)
  local kind
  for name, n in pairs(TYPES) do
    if n == number then kind = name end
  end
  return table.concat(labels, ".", 1, #labels - 1):lower(), kind, query:sub(13, at + 3)
end

local function answer(zone, query)
  local name, kind, question = read_question(query)
  local records = {}
  local status = collect(zone, name, kind, records)
  if status == "silence" then
    return nil
  end
  local flags = ANSWER | AUTHORITATIVE | (STATUSES[status] or 0)
  return query:sub(1, 2) .. (">I2I2I2I2I2"):pack(flags, 1, #records, 0, 0) .. question
    .. table.concat(records)
end

local NameServer = {}
NameServer.__index = NameServer
NameServer.__name = "name_server.NameServer"

function NameServer:__close()
  self.task:cancel()
  moonloop.wait { self.task }
  self.socket:close()
end

--- Serves a table of names on a free port of 127.0.0.1, until its block is left.
-- @return the server, a to-be-closed value; `address` is what moonloop.dns takes as a server
function M.start(zone)
  local socket = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
  local task = moonloop.create_task(function()
    while true do
      local query, from = socket:recv()
      local reply = answer(zone, query)
      if reply then
        socket:send(reply, from)
      end
    end
  end)
  return setmetatable({ socket = socket, task = task, address = socket:getsockname() }, NameServer)
end

return M
