-- SPDX-License-Identifier: MIT
-- DNS packets (RFC 1035, 2782, 3596, 8659) in Lua: reads queries and builds answers, right ones
-- and, where it is told to, wrong ones. Builds on nothing, and so on nothing that is under test.
local M = {}

M.TYPES = {
  A = 1, NS = 2, CNAME = 5, SOA = 6, PTR = 12, MX = 15, TXT = 16, AAAA = 28, SRV = 33, OPT = 41,
  CAA = 257,
}

M.RCODES = { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5 }

local TYPE_NAMES = {}
for name, number in pairs(M.TYPES) do TYPE_NAMES[number] = name end

local RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION = 0x8000, 0x0400, 0x0200, 0x0180
local POINTER, FARTHEST = 0xC000, 0x3FFF
local INTERNET = 1

--- The number of a record type, given by name or as a number.
function M.number(type)
  return M.TYPES[type] or math.tointeger(type) or error("no such type: " .. tostring(type))
end

-- ---- addresses ---------------------------------------------------------------

local function ipv4_bytes(text)
  local a, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  return string.char(a, b, c, d)
end

local function ipv6_words(text)
  local words = {}
  for word in text:gmatch("[^:]+") do words[#words + 1] = tonumber(word, 16) end
  return words
end

local function ipv6_bytes(text)
  local head, tail = text:match("^(.-)::(.*)$")
  local words, rest = ipv6_words(head or text), ipv6_words(tail or "")
  while #words + #rest < 8 do words[#words + 1] = 0 end
  table.move(rest, 1, #rest, #words + 1, words)
  return string.pack(">" .. ("I2"):rep(8), table.unpack(words))
end

-- ---- writing -----------------------------------------------------------------

local Writer = {}
Writer.__index = Writer
Writer.__name = "Writer"

local function new_writer()
  return setmetatable({ bytes = "", names = {} }, Writer)
end

function Writer:add(format, ...)
  self.bytes = self.bytes .. string.pack(format, ...)
end

-- A name, of which what stands in the packet already becomes a pointer; `plain`: in full.
function Writer:name(text, plain)
  text = text:gsub("%.$", "")
  while text ~= "" do
    local at = self.names[text]
    if at and not plain then return self:add(">I2", POINTER | at) end
    if not at and #self.bytes <= FARTHEST then self.names[text] = #self.bytes end
    local label, rest = text:match("^([^.]*)%.?(.*)$")
    self:add("s1", label)
    text = rest
  end
  self:add("B", 0)
end

local data = {}

function data.A(writer, record)
  writer:add("c4", ipv4_bytes(record.host))
end

function data.AAAA(writer, record)
  writer:add("c16", ipv6_bytes(record.host))
end

function data.NS(writer, record)
  writer:name(record.host)
end

data.CNAME, data.PTR = data.NS, data.NS

function data.MX(writer, record)
  writer:add(">I2", record.preference)
  writer:name(record.host)
end

-- `text`: one string, or a list of strings of at most 255 bytes.
function data.TXT(writer, record)
  local strings = type(record.text) == "table" and record.text or { record.text }
  for _, one in ipairs(strings) do writer:add("s1", one) end
end

function data.SRV(writer, record)
  writer:add(">I2I2I2", record.priority, record.weight, record.port)
  writer:name(record.host, true)
end

function data.SOA(writer, record)
  writer:name(record.mname)
  writer:name(record.rname)
  writer:add(">I4I4I4I4I4", record.serial, record.refresh, record.retry, record.expire,
    record.minimum)
end

function data.CAA(writer, record)
  writer:add("Bs1", record.flags, record.tag)
  writer.bytes = writer.bytes .. record.value
end

-- A record: `name` and `type` are the question's where they lack; `data`: its bytes as they are;
-- `size`: what it says of their number.
function Writer:record(record, question)
  local kind = record.type or question.type
  self:name(record.name or question.name)
  self:add(">I2I2I4", M.number(kind), record.class or INTERNET, record.ttl or 60)
  local head = #self.bytes
  self:add(">I2", 0)
  if record.data then
    self.bytes = self.bytes .. record.data
  else
    data[kind](self, record)
  end
  local size = record.size or #self.bytes - head - 2
  self.bytes = self.bytes:sub(1, head) .. string.pack(">I2", size) .. self.bytes:sub(head + 3)
end

--- The packet of a reply to `query`, which has `id`, `name` and `type`.
-- @param reply list of records, and `rcode`; `truncated`; `authority` and `additional`, further
-- lists; `id`, `question` (instead of the query's; false: none); `flags` that replace all;
-- `count`, the number of answers that the header tells
function M.reply(query, reply)
  local writer = new_writer()
  local flags = RESPONSE | AUTHORITATIVE | RECURSION | M.RCODES[reply.rcode or "NOERROR"]
  if reply.truncated then flags = flags | TRUNCATED end
  local question, authority, additional = reply.question, reply.authority or {},
    reply.additional or {}
  if question == nil then question = query end
  writer:add(">I2I2I2I2I2I2", reply.id or query.id, reply.flags or flags, question and 1 or 0,
    reply.count or #reply, #authority, #additional)
  if question and question.wire then
    writer.names[question.name] = #writer.bytes
    writer.bytes = writer.bytes .. question.wire
  elseif question then
    writer:name(question.name)
    writer:add(">I2I2", M.number(question.type), question.class or INTERNET)
  end
  for _, section in ipairs { reply, authority, additional } do
    for _, record in ipairs(section) do writer:record(record, query) end
  end
  return writer.bytes
end

-- ---- reading -----------------------------------------------------------------

--- What a query asks: `id`, `name` (lower case), `type`; `wire`, the bytes of the question.
function M.read_query(bytes)
  local id, _, questions = string.unpack(">I2I2I2", bytes)
  assert(questions == 1, "one question is expected")
  local labels = {}
  local label, at = string.unpack("s1", bytes, 13)
  while label ~= "" do
    labels[#labels + 1] = label
    label, at = string.unpack("s1", bytes, at)
  end
  local number = string.unpack(">I2", bytes, at)
  local name = #labels > 0 and table.concat(labels, "."):lower() or "."
  return { id = id, name = name, type = TYPE_NAMES[number] or number, wire = bytes:sub(13, at + 3) }
end

return M
