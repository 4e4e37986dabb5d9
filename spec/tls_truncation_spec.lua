-- SPDX-License-Identifier: MIT
-- A connection over TLS that ends without close_notify: an error of every call that reads, which
-- tells what had come, and never an end of file, unless the context allows it. What ends a
-- connection in that manner, and what does not; resets.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Calls fn, which must raise the error of a truncation, and returns it.
local function truncated(fn, ...)
  local err = net.raises("TLSError", fn, ...)
  assert.equal("EOF", err.code)
  assert.is_false(moonloop.is_error(err, "CertificateError"))
  return err
end

-- Ends the wire towards the client, with no close_notify. Awaits.
local function cut(wire)
  wire.near:write_eof()
  wait_all_blocked()
end

-- Has the peer send `data` to the client over a wire that holds. Awaits.
local function deliver(wire, data)
  wire:flow()
  wire.peer:write(data)
  wire:hold()
end

-- What each call has gathered of "some bytes" when it fails, and what it wants.
local GATHERING = {
  ["read()"] = function(s) return s:read() end,
  ["readexactly"] = function(s) return s:readexactly(100) end,
  ["readline"] = function(s) return s:readline() end,
  ["readuntil"] = function(s) return s:readuntil({ ";", "--" }) end,
}

local ENDLESS = {
  ["read(n)"] = function(s) return s:read(1) end,
  ["read()"] = function(s) return s:read() end,
  ["readexactly"] = function(s) return s:readexactly(1) end,
  ["readline"] = function(s) return s:readline() end,
  ["readuntil"] = function(s) return s:readuntil(";") end,
  ["peek"] = function(s) return s:peek(1) end,
  ["lines"] = function(s) return s:lines()() end,
  ["chunks"] = function(s) return s:chunks()() end,
}

local function gathering_specs(version)
  describe("Truncation over " .. version, function()
    local opts = { version = version }

    for name, call in pairs(GATHERING) do
      it("is an error of " .. name .. " that holds what had come, whenever it comes", function()
        for _, early in ipairs { true, false } do
          local wire <close> = link.tls_wire(opts)
          local task = early and tasks.start(call, wire.client)
          deliver(wire, "some ")
          deliver(wire, "bytes")
          cut(wire)
          task = task or moonloop.create_task(call, wire.client)
          local err = truncated(task.await, task)
          assert.equal("some bytes", err.partial)
          if name == "readexactly" then assert.equal(100, err.expected) end
          truncated(wire.client.read, wire.client, 1) -- what was gathered is consumed
        end
      end)
    end

    for name, call in pairs(ENDLESS) do
      it("is an error of " .. name .. " with nothing left, as often as it is asked", function()
        local wire <close> = link.tls_wire(opts)
        local task = tasks.start(call, wire.client)
        cut(wire)
        truncated(task.await, task)
        for _ = 1, 3 do truncated(call, wire.client) end
        assert.is_false(wire.client:at_eof())
      end)
    end

    it("leaves what came before to read(n), peek and whole lines", function()
      local wire <close> = link.tls_wire(opts)
      deliver(wire, "line\nlast")
      cut(wire)
      assert.equal("line\n", wire.client:readline())
      assert.equal("last", wire.client:peek(100))
      assert.equal("la", wire.client:readexactly(2))
      assert.equal("st", wire.client:read(100))
      truncated(wire.client.read, wire.client, 1)
    end)

    it("ends a loop over lines with an error, without the line that lacks its end", function()
      local wire <close> = link.tls_wire(opts)
      deliver(wire, "one\ntwo\nthr")
      cut(wire)
      local got = {}
      local err = truncated(function()
        for line in wire.client:lines() do got[#got + 1] = line end
      end)
      assert.same({ "one", "two" }, got)
      assert.equal("thr", err.partial)
    end)

    it("inside a record drops the part of it and keeps the records before", function()
      for _, keep in ipairs { 1, 4, 5, 6, 12 } do
        local wire <close> = link.tls_wire(opts)
        deliver(wire, "whole")
        wire.peer:write("half of it")
        local record = link.record(wire.far)
        wire.near:write(record:sub(1, keep))
        cut(wire)
        local err = truncated(wire.client.read, wire.client)
        assert.equal("whole", err.partial)
      end
    end)

    it("comes also after our own write_eof", function()
      local wire <close> = link.tls_wire(opts)
      wire.client:write_eof()
      deliver(wire, "some bytes")
      cut(wire)
      assert.equal("some bytes", truncated(wire.client.read, wire.client).partial)
    end)

    it("leaves the way to the peer open", function()
      local wire <close> = link.tls_wire(opts)
      cut(wire)
      truncated(wire.client.read, wire.client, 1)
      wire:flow()
      wire.client:write("still there")
      wire.client:close()
      assert.equal("still there", wire.peer:read())
    end)
  end)
end

local function cause_specs(version)
  describe("A peer over " .. version, function()
    -- What the client reads to the end: the text, and whether it ended well. Awaits.
    local function ending(end_peer)
      local pair <close> = link.pair(version)
      local task = tasks.start(pair.client.read, pair.client)
      pair.peer:write("data")
      wait_all_blocked()
      end_peer(pair.peer)
      local ok, got = tasks.outcome(task)
      if ok then return got, true end
      assert.equal("EOF", got.code)
      return got.partial, false
    end

    it("that closes, ends its writing or leaves the block truncates nothing", function()
      for _, fn in ipairs {
        function(s) s:close() end,
        function(s) s:write_eof() end,
        function(s) local _ <close> = s end,
      } do
        assert.same({ "data", true }, { ending(fn) })
      end
    end)

    it("that aborts truncates", function()
      assert.same({ "data", false }, { ending(function(s) s:abort() end) })
    end)

    it("that leaves the block by an error or a cancellation truncates", function()
      assert.same({ "data", false }, { ending(function(s)
        pcall(function()
          local _ <close> = s
          error("broken")
        end)
      end) })
      assert.same({ "data", false }, { ending(function(s)
        tasks.cancel(tasks.start(function()
          local _ <close> = s
          moonloop.sleep_forever()
        end))
      end) })
    end)

    it("that a server cancels truncates, and one whose handler returns does not", function()
      local client, server_context = link.contexts(version)
      for _, ends_well in ipairs { true, false } do
        local handling
        local server <close> = moonloop.start_server(function(stream)
          handling = moonloop.current_task()
          stream:write("data")
          if not ends_well then moonloop.sleep_forever() end
        end, tls.HOST, 0, { tls = server_context })
        local stream <close> = tls.connect(server, client)
        assert.equal("data", stream:readexactly(4))
        if ends_well then
          assert.equal("", stream:read())
        else
          handling:cancel()
          truncated(stream.read, stream)
        end
      end
    end)

    it("that nobody holds any more truncates when it is collected", function()
      local client, server_context = link.contexts(version)
      local seen = moonloop.Future()
      local server <close> = moonloop.start_server(function(stream)
        stream:write("data")
        seen:set_result(pcall(stream.read, stream))
      end, tls.HOST, 0, { tls = server_context })
      local function leave_one()
        local stream = tls.connect(server, client)
        stream:readexactly(4)
        stream:write("left")
      end
      leave_one()
      tasks.collect()
      local ok, err = seen:await()
      assert.is_false(ok)
      assert.same({ "EOF", "left" }, { err.code, err.partial })
    end)
  end)

  describe("A reset over " .. version, function()
    it("is a ConnectionResetError and no TLSError, behind what came before", function()
      local pair <close> = link.pair(version)
      pair.peer:write("before")
      assert.equal("befo", pair.client:readexactly(4))
      pair.peer:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
      pair.peer:abort()
      wait_all_blocked()
      assert.equal("re", pair.client:read(100))
      for _ = 1, 2 do
        local err = net.raises("ConnectionResetError", pair.client.read, pair.client, 1)
        assert.equal("ECONNRESET", err.code)
      end
    end)

    it("is told to tasks that read and write", function()
      local pair <close> = link.pair(version)
      local reader = tasks.start(pair.client.read, pair.client)
      net.fill(pair.client)
      local writer = tasks.start(pair.client.write, pair.client, "more")
      pair.peer:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
      pair.peer:abort()
      net.raises("ConnectionResetError", reader.await, reader)
      net.raises("ConnectionResetError", writer.await, writer)
    end)
  end)
end

local function allowed_specs(version)
  describe("allow_truncation over " .. version, function()
    local function contexts(side)
      local range = { min_version = version, max_version = version }
      local allowing = { min_version = version, max_version = version, allow_truncation = true }
      return {
        client = tls.client(side == "client" and allowing or range),
        server = tls.server(nil, side == "server" and allowing or range),
      }
    end

    it("makes an end of file of it, for the side whose context has it", function()
      for _, side in ipairs { "client", "server" } do
        local wire <close> = link.tls_wire(contexts(side))
        wire:flow()
        wire.client:write("to the peer")
        wire.peer:write("to the client")
        wire:hold()
        wire.near:write_eof()
        wire.far:write_eof()
        local allowing, other = wire.client, wire.peer
        if side == "server" then allowing, other = other, allowing end
        assert.matches("^to the ", allowing:read())
        assert.is_nil(allowing:read(1))
        assert.is_nil(allowing:readline())
        assert.is_true(allowing:at_eof())
        assert.matches("^to the ", truncated(other.read, other).partial)
      end
    end)

    it("gives the last line that lacks its end, and IncompleteReadError", function()
      local wire <close> = link.tls_wire(contexts("client"))
      deliver(wire, "one\nlast")
      cut(wire)
      assert.equal("one\n", wire.client:readline())
      assert.equal("last", wire.client:readline())
      local other <close> = link.tls_wire(contexts("client"))
      deliver(other, "part")
      cut(other)
      local err = net.raises("IncompleteReadError", other.client.readexactly, other.client, 9)
      assert.equal("part", err.partial)
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  gathering_specs(version)
  cause_specs(version)
  allowed_specs(version)
end
