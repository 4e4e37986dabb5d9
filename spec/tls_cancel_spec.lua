-- SPDX-License-Identifier: MIT
-- Cancellation over TLS, at every wait there is: a handshake, wherever it stands, ends with its
-- connection; a read has consumed nothing, also in the middle of a record; a write has sent
-- nothing; and the connection goes on as if nothing had been.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local NAME = { server_hostname = "localhost" }

-- Takes what has been sent to one of the wire's middle streams; "" where that is nothing. Awaits.
local function sent_to(stream)
  wait_all_blocked()
  local task = tasks.start(stream.read, stream, 65536)
  if task:done() then return task:await() or "" end
  tasks.cancel(task)
  return ""
end

local STEP = 100 -- bytes of a handshake that are passed on at a time

-- ---- handshakes --------------------------------------------------------------

-- Passes on up to `budget` bytes in all, in pieces of `size`, one side's and then the other's.
-- Awaits.
-- @return how much was passed on
local function pass(wire, budget, size)
  local passed, quiet = 0, 0
  local ways = { { wire.near, wire.far, "" }, { wire.far, wire.near, "" } }
  while passed < budget and quiet < 2 do
    for _, way in ipairs(ways) do
      if way[3] == "" then way[3] = sent_to(way[1]) end
      local piece = way[3]:sub(1, math.min(size, budget - passed))
      way[3] = way[3]:sub(#piece + 1)
      if #piece > 0 then
        way[2]:write(piece)
        passed, quiet = passed + #piece, 0
      else
        quiet = quiet + 1
      end
    end
  end
  wait_all_blocked()
  return passed
end

-- Has a wire's both ends start TLS, and passes on so many bytes of that. Awaits.
-- @return the wire, the client's task, the peer's task, how much was passed on
local function stopped_at(version, budget)
  local client, server = link.contexts(version)
  local wire = link.wire()
  local ours = moonloop.create_task(wire.client.start_tls, wire.client, client, NAME)
  local theirs = moonloop.create_task(wire.peer.start_tls, wire.peer, server)
  local passed = pass(wire, budget, STEP)
  return wire, ours, theirs, passed
end

-- Cancels the handshake of one side after so many bytes. Awaits.
-- @return whether it was still under way
local function cancel_at(version, side, budget)
  local wire <close>, mine, other, passed = stopped_at(version, budget)
  if side == "peer" then mine, other = other, mine end
  if mine:done() then
    tasks.cancel(other) -- what was held back is lost
    return false
  end
  assert.equal(budget, passed)
  assert.is_true(tasks.cancel(mine))
  assert.equal(-1, wire[side]:fileno())
  net.raises("InvalidStateError", wire[side].read, wire[side], 1)
  wire:flow()
  if not other:done() then net.raises("TLSError", other.await, other) end
  return true
end

local function handshake_specs(version)
  describe("A handshake over " .. version, function()
    it("ends with its connection, wherever it is cancelled", function()
      local cancelled = {}
      for _, side in ipairs { "client", "peer" } do
        local budget = 0
        while cancel_at(version, side, budget) do budget = budget + STEP end
        cancelled[side] = budget // STEP
      end
      assert.is_true(cancelled.client > 5 and cancelled.peer > 5)
    end)

    it("of connect ends, after however many turns of the loop it is cancelled", function()
      local client, server_context = link.contexts(version)
      local reports <close> = tls.reports()
      local server <close> = tls.echo(server_context)
      local connected = 0
      for turns = 0, 40 do
        local task = moonloop.create_task(function()
          local stream <close> = tls.connect(server, client)
          connected = connected + 1
          stream:read(1)
        end)
        for _ = 1, turns * 10 do moonloop.sleep(0) end
        assert.is_true(tasks.cancel(task))
        wait_all_blocked()
      end
      assert.is_true(connected > 0 and connected < 41)
      for _, report in ipairs(reports) do
        assert.is_true(report.error.code == "EOF" or report.error.code == "ECONNRESET")
      end
      local stream <close> = tls.connect(server, client)
      tls.talk(stream)
    end)

    it("of create_connection ends, and the protocol never hears of it or hears the end", function()
      local client, server_context = link.contexts(version)
      local _ <close> = tls.reports()
      local server <close> = tls.echo(server_context)
      for turns = 0, 20 do
        local recorder = protocols.recorder()
        local task = moonloop.create_task(loop.create_connection, loop,
          function() return recorder end, tls.HOST, server:port(),
          { tls = client, server_hostname = "localhost" })
        for _ = 1, turns * 20 do moonloop.sleep(0) end
        if tasks.cancel(task) then
          wait_all_blocked()
          assert.is_true(recorder:order() == "" or recorder:order() == "made lost")
        else
          recorder.transport:abort()
          recorder:lost()
        end
        recorder:check()
      end
    end)
  end)
end

-- ---- reading -----------------------------------------------------------------

local READS = {
  ["read(n)"] = { function(s) return s:read(100) end, "text" },
  ["read()"] = { function(s) return s:read() end, "text", eof = true },
  ["readexactly"] = { function(s) return s:readexactly(4) end, "text" },
  ["readline"] = { function(s) return s:readline() end, "tex\n" },
  ["readuntil"] = { function(s) return s:readuntil("t;") end, "txt;" },
  ["peek"] = { function(s) return s:peek(4) end, "text" },
}

local function reading_specs(version)
  for name, case in pairs(READS) do
    describe(name .. " over " .. version, function()
      it("loses nothing, wherever in a record it is cancelled", function()
        local wire <close> = link.tls_wire { version = version }
        wire.peer:write(case[2])
        if case.eof then wire.peer:write_eof() end
        local bytes = sent_to(wire.far)
        for i = 1, #bytes - 1 do
          local task = tasks.start(case[1], wire.client)
          wire.near:write(bytes:sub(i, i))
          wait_all_blocked()
          if task:done() then
            assert.equal(case[2], task:await())
            assert.is_nil(case.eof)
            return
          end
          assert.is_true(tasks.cancel(task))
        end
        wire.near:write(bytes:sub(-1))
        assert.equal(case[2], case[1](wire.client))
      end)

      it("loses nothing to a timeout that passes while it waits", function()
        local wire <close> = link.tls_wire { version = version }
        assert.is_false((moonloop.move_on_after(0.002, case[1], wire.client)))
        wire:flow()
        wire.peer:write(case[2]:sub(1, 1))
        wait_all_blocked()
        if name ~= "read(n)" and name ~= "peek" then
          assert.is_false((moonloop.move_on_after(0.002, case[1], wire.client)))
        end
        wire.peer:write(case[2]:sub(2))
        if case.eof then wire.peer:write_eof() end
        wait_all_blocked()
        assert.equal(case[2], case[1](wire.client))
      end)
    end)
  end
end

-- ---- writing -----------------------------------------------------------------

local WRITES = {
  write = function(s) s:write("never") end,
  writelines = function(s) s:writelines { "nev", "er" } end,
  drain = function(s) s:drain() end,
}

local function writing_specs(version)
  for name, call in pairs(WRITES) do
    describe(name .. " over " .. version, function()
      it("has sent nothing when it is cancelled, at whatever moment of the way", function()
        local pair <close> = link.socketpair { version = version }
        local count = net.fill(pair.client)
        local task = tasks.start(call, pair.client)
        assert.is_true(tasks.cancel(task))
        assert.is_false((moonloop.move_on_after(0.002, call, pair.client)))
        task = tasks.start(call, pair.client)
        pair.peer:readexactly(1)
        wait_all_blocked()
        assert.is_true(tasks.cancel(task)) -- so little room lets nobody go on
        pair.peer:readexactly(65535)
        net.drain_filled(pair.peer, count - 65536)
        pair.client:write("after")
        assert.equal("after", pair.peer:readexactly(5))
      end)

      it("raises at once in a scope that is cancelled, and has sent nothing", function()
        local pair <close> = link.socketpair { version = version }
        local task = moonloop.create_task(function()
          pcall(moonloop.sleep_forever)
          call(pair.client)
        end)
        wait_all_blocked()
        assert.is_true(tasks.cancel(task))
        pair.client:close()
        assert.equal("", pair.peer:read())
      end)
    end)
  end

  describe("A task over " .. version, function()
    it("is cancelled while another one goes on writing", function()
      local pair <close> = link.socketpair { version = version }
      local reader = tasks.start(pair.client.read, pair.client, 1)
      local text = net.text(300000)
      local writer = moonloop.create_task(function()
        pair.client:write(text)
        pair.client:close()
      end)
      local all = moonloop.create_task(pair.peer.read, pair.peer)
      assert.is_true(tasks.cancel(reader))
      assert.is_true(all:await() == text)
      writer:await()
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  handshake_specs(version)
  reading_specs(version)
  writing_specs(version)
end
