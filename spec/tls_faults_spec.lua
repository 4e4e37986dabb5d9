-- SPDX-License-Identifier: MIT
-- TLS over bad networks: a conversation, handshake included, comes through whole in whatever
-- pieces its bytes come, cut at every place around the records' boundaries or at random; and when
-- the connection ends or is reset at whatever byte, both ends soon hear of it, by the right error,
-- and have lost nothing that had come.
local delivery = require "spec.support.delivery"
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"

local testing = moonloop.testing

local PATIENCE = 60 -- seconds after which a conversation hangs
local NAME = { server_hostname = "localhost" }
local LINE = "a line that is not too short\n"
local TEXT = net.text(20000) -- more than one record

-- ---- conversations -----------------------------------------------------------

-- What both say, as two functions that are called with a plain stream each and return what they
-- have read. `texts` are what the client writes in the end, and what the peer answers.
local function talkers(version, texts)
  local client_context, server_context = link.contexts(version)
  local function client(stream)
    stream:start_tls(client_context, NAME)
    stream:write(LINE)
    local line = stream:readline()
    stream:write(texts[1])
    stream:write_eof()
    return (line or "no line") .. stream:read()
  end
  local function peer(stream)
    stream:start_tls(server_context)
    local line = stream:readline()
    stream:write(line or "no line")
    local text = stream:read()
    stream:write(texts[2])
    stream:close()
    stream:wait_closed()
    return (line or "no line") .. text
  end
  return client, peer
end

-- Has two plain streams hold a conversation. Awaits.
-- @return for the client and the peer: {ok, what they read or the error}
local function converse(a, b, version, texts)
  local client, peer = talkers(version, texts)
  local _ <close> = moonloop.timeout(PATIENCE)
  local there = moonloop.create_task(function() return { pcall(peer, b) } end)
  local here = { pcall(client, a) }
  a:close()
  return here, there:await()
end

-- Both must have read all.
local function check_whole(here, there, texts)
  assert(here[1], tostring(here[2]))
  assert(there[1], tostring(there[2]))
  assert(here[2] == LINE .. texts[2], "the client has read something else")
  assert(there[2] == LINE .. texts[1], "the peer has read something else")
end

local Both = {}
Both.__close = function(self)
  self.a:abort()
  self.b:abort()
end

-- The two streams of fault_socketpair and what aborts both. Awaits.
local function faulty(faults)
  local a, b = testing.fault_socketpair(faults)
  return a, b, setmetatable({ a = a, b = b }, Both)
end

local LONG, SHORT = { TEXT, TEXT:reverse() }, { "short", "answer" }

-- ---- whole, in pieces ----------------------------------------------------------

-- What is sent at one go. Awaits.
-- @return nil at the end of file
local function flight(from)
  if not from:peek(1) then return nil end
  testing.wait_all_blocked()
  return from:read(65536)
end

-- The places in whole records that are `offset` bytes behind where one begins (before it where
-- that is negative), and the end.
local function cuts(records, offset)
  local list, at = {}, 1
  while at <= #records do
    local cut = at - 1 + offset
    if cut > 0 and cut < #records then list[#list + 1] = cut end
    at = at + 5 + string.unpack(">I2", records, at + 3)
  end
  list[#list + 1] = #records
  return list
end

-- Passes on what comes, in pieces that end there. Awaits, until the end.
local function cutting(from, to, offset)
  for records in function() return flight(from) end do
    local first = 1
    for _, cut in ipairs(cuts(records, offset)) do
      to:write(records:sub(first, cut))
      first = cut + 1
      testing.wait_all_blocked()
    end
  end
  to:write_eof()
end

local function through_wire(version, texts, offset)
  local wire <close> = link.wire()
  local pumps = {
    moonloop.create_task(pcall, cutting, wire.near, wire.far, offset),
    moonloop.create_task(pcall, cutting, wire.far, wire.near, offset),
  }
  local here, there = converse(wire.client, wire.peer, version, texts)
  check_whole(here, there, texts)
  for _, task in ipairs(pumps) do task:cancel() end
end

local function split(version, faults, texts)
  local a, b, closing = faulty(faults)
  local _ <close> = closing
  local here, there = converse(a, b, version, texts)
  local ok, err = pcall(check_whole, here, there, texts)
  if not ok then error(("seed %s: %s"):format(faults.seed, err), 0) end
end

local function split_specs(version)
  describe("A conversation over " .. version, function()
    for _, offset in ipairs { 0, 1, 4, 5, 6, 21, -1, -16 } do
      it(("comes through whole, cut %d bytes behind where records begin"):format(offset),
        function() through_wire(version, LONG, offset) end)
    end

    it("comes through whole, byte by byte", function()
      split(version, { split = 1 }, SHORT)
    end)

    it(("comes through whole in random pieces (SPEC_SEED=%d)"):format(delivery.seed), function()
      for i = 1, 5 do split(version, { split = true, seed = delivery.seed + i }, LONG) end
      for i = 1, 5 do split(version, { split = 50, seed = delivery.seed + i }, SHORT) end
    end)

    it(("comes through whole in many random pieces (SPEC_SEED=%d) #load"):format(delivery.seed),
      function()
        for i = 1, 50 do split(version, { split = true, seed = delivery.seed + i }, LONG) end
        for i = 1, 80 do split(version, { split = 100, seed = delivery.seed + i }, SHORT) end
      end)

    it("comes through whole however late", function()
      split(version, { delay = 0.001, split = 500, seed = delivery.seed }, SHORT)
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do split_specs(version) end

-- ---- ended at a byte -----------------------------------------------------------

-- How many bytes go each way in a short conversation; signatures are not always of one size.
local function sizes(version)
  local wire <close> = link.wire()
  local counts = {}
  local function counting(from, to, key)
    counts[key] = 0
    for chunk in from:chunks() do
      counts[key] = counts[key] + #chunk
      to:write(chunk)
    end
    to:write_eof()
  end
  local pumps = {
    moonloop.create_task(counting, wire.near, wire.far, 1),
    moonloop.create_task(counting, wire.far, wire.near, 2),
  }
  local here, there = converse(wire.client, wire.peer, version, SHORT)
  check_whole(here, there, SHORT)
  for _, task in ipairs(pumps) do task:await() end
  return counts
end

local VARIATION = 16 -- bytes

local function is_truncation(err)
  return moonloop.is_error(err, "TLSError") and err.code == "EOF"
end

local function is_reset(err) return moonloop.is_error(err, "ConnectionError") end

-- What an end read before its error must be the beginning of what was sent to it.
local function check_end(result, wanted, is_right)
  if result[1] then
    assert(result[2] == wanted, "an end that came well, but not all before it")
    return
  end
  local err = result[2]
  assert(is_right(err), "another error: " .. tostring(err))
  local got = err.partial or ""
  assert(LINE:sub(1, #got) == got or (wanted:sub(#LINE + 1)):sub(1, #got) == got,
    "other bytes than were sent")
end

-- Lets a short conversation end at a byte of one direction. Awaits.
-- @param from "client" or "peer": whose bytes count
local function end_at(version, fault, from, position, size)
  local a, b, closing = faulty { [fault] = position }
  local _ <close> = closing
  local client_stream, peer_stream = a, b
  if from == "peer" then client_stream, peer_stream = b, a end
  local here, there = converse(client_stream, peer_stream, version, SHORT)
  local is_right = fault == "reset_at" and is_reset or is_truncation
  check_end(here, LINE .. SHORT[2], is_right)
  check_end(there, LINE .. SHORT[1], is_right)
  local reader = from == "client" and there or here
  if position < size - VARIATION then assert(not reader[1], "the end was not noticed") end
end

local function end_everywhere(version, fault, from, first, step)
  local size = sizes(version)[from == "client" and 1 or 2]
  for position = first, size + VARIATION, step do
    local ok, err = pcall(end_at, version, fault, from, position, size)
    if not ok then
      error(("%s=%d from the %s: %s"):format(fault, position, from, tostring(err)), 0)
    end
  end
end

local function end_specs(version, fault, what)
  describe(what .. " over " .. version, function()
    for _, from in ipairs { "client", "peer" } do
      it(("is heard of at both ends, after however many bytes of the %s"):format(from), function()
        end_everywhere(version, fault, from, 0, 83)
      end)

      it(("is heard of at both ends, after any number of bytes of the %s #load"):format(from),
        function() end_everywhere(version, fault, from, 0, 1) end)
    end
  end)
end

for _, version in ipairs(link.VERSIONS) do
  end_specs(version, "truncate_at", "A cut connection")
  end_specs(version, "reset_at", "A reset")
end
