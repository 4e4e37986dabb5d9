-- SPDX-License-Identifier: MIT
-- Much over TLS: 100 MiB both ways at once in little memory, 500 connections at once, and many one
-- after the other, which leave nothing behind.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local pipes = require "spec.support.pipes"
local script = require "spec.support.script"
local sockets = require "spec.support.sockets"
local tls = require "spec.support.tls"

local MIB = 1024 * 1024
local CHUNK = ("0123456789abcdef"):rep(4096)

-- A sanitizer keeps what was freed, so the size of the process says nothing there.
local is_sanitized = script.binary:find("asan", 1, true) ~= nil

local function resident()
  collectgarbage()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmRSS:%s*(%d+)")
    if kib then return tonumber(kib) * 1024 end
  end
end

local function check_memory(before, allowed)
  local grown = resident() - before
  assert(is_sanitized or grown < allowed, ("the process has grown by %.1f MiB"):format(grown / MIB))
end

-- Runs `fn(i)` for 1 to `count` in tasks side by side, and awaits them all.
local function side_by_side(count, fn)
  local all = {}
  for i = 1, count do all[i] = moonloop.create_task(fn, i) end
  for i = 1, count do all[i]:await() end
end

local function send_all(stream, count)
  for _ = 1, count do stream:write(CHUNK) end
  stream:write_eof()
end

local function receive_all(stream, count)
  for _ = 1, count do assert(stream:readexactly(#CHUNK) == CHUNK, "other bytes than were sent") end
  assert(stream:read() == "", "more bytes than were sent")
end

describe("TLS", function()
  for _, version in ipairs(link.VERSIONS) do
    it("carries 100 MiB both ways at once in little memory, by " .. version .. " #load", function()
      local pair <close> = link.pair(version)
      local count = 100 * MIB // #CHUNK
      local jobs = {
        function() send_all(pair.client, count) end, function() send_all(pair.peer, count) end,
        function() receive_all(pair.client, count) end,
        function() receive_all(pair.peer, count) end,
      }
      local before = resident()
      side_by_side(4, function(i) jobs[i]() end)
      check_memory(before, 16 * MIB)
    end)
  end

  it("sends a file of 64 MiB in little memory #load", function()
    local file <close> = pipes.file("")
    local out = assert(io.open(file.path, "wb"))
    for _ = 1, 64 * MIB // #CHUNK do out:write(CHUNK) end
    out:close()
    local pair <close> = link.pair("TLSv1.3")
    local before = resident()
    local reader = moonloop.create_task(receive_all, pair.peer, 64 * MIB // #CHUNK)
    assert.equal(64 * MIB, pair.client:sendfile(file.path))
    pair.client:close()
    reader:await()
    check_memory(before, 16 * MIB)
  end)

  it("serves 500 connections that come at once and stay #load", function()
    local server <close> = tls.echo()
    local client = link.contexts()
    local streams, gate = {}, moonloop.Barrier(500)
    side_by_side(500, function(i)
      streams[i] = tls.connect(server, client)
      tls.talk(streams[i], "first words of " .. i)
      gate:wait()
      tls.talk(streams[i], "last words of " .. i)
      streams[i]:close()
      streams[i]:wait_closed()
    end)
  end)

  it("leaves nothing of 1,000 connections, however they end #load", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local client = link.contexts()
    local function rounds(count)
      for i = 1, count do
        local stream = tls.connect(server, client)
        if i % 4 > 0 then tls.talk(stream) end
        if i % 2 == 0 then stream:close() else stream:abort() end
        local plain = moonloop.connect(tls.HOST, server:port())
        plain:write("not TLS")
        pcall(plain.read, plain)
        plain:close()
      end
      moonloop.testing.wait_all_blocked()
    end
    rounds(100)
    local memory, descriptors = resident(), sockets.count_descriptors()
    rounds(900)
    check_memory(memory, 4 * MIB)
    assert.equal(descriptors, sockets.count_descriptors())
    assert.is_true(#reports >= 1000)
  end)
end)
