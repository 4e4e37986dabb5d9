-- SPDX-License-Identifier: MIT
-- What servers ask of the system, counted by strace: one read and one write for a message, a share
-- of a wait for events and nothing else; and a file that goes out by sendfile alone.
local moonloop = require "moonloop"
local script = require "spec.support.script"
local syscalls = require "spec.support.syscalls"

local CONNECTIONS = 50
local FEW, MANY = 20, 120 -- messages on each, so what is paid once for a connection drops out
local MESSAGE = ("x"):rep(64)

local READS = { "read", "readv", "recvfrom", "recvmsg" }
local WRITES = { "write", "writev", "sendto", "sendmsg" }
local WAITS = { "epoll_wait", "epoll_pwait", "epoll_pwait2" }

-- Sends a message on each connection, then takes all the answers; again and again.
local function talk(rounds)
  return function(port)
    local streams = {}
    for i = 1, CONNECTIONS do streams[i] = moonloop.connect("127.0.0.1", port) end
    for _ = 1, rounds do
      for i = 1, CONNECTIONS do streams[i]:write(MESSAGE) end
      for i = 1, CONNECTIONS do assert(streams[i]:readexactly(#MESSAGE) == MESSAGE) end
    end
    for i = 1, CONNECTIONS do streams[i]:close() end
  end
end

-- How often a server makes those calls for each message; of all others, when none are named.
local function per_message(few, many, count, ...)
  return (count(many, ...) - count(few, ...)) / (MANY - FEW) / CONNECTIONS
end

local SERVERS = {
  Streams = [[
    local server <close> = moonloop.start_server(function(stream)
      for data in function() return stream:read(65536) end do stream:write(data) end
    end, "127.0.0.1", 0)
    tell(server:port())
  ]],
  protocols = [[
    local server <close> = moonloop.get_running_loop():create_server(function()
      return {
        connection_made = function(self, transport) self.transport = transport end,
        data_received = function(self, data) self.transport:write(data) end,
      }
    end, "127.0.0.1", 0)
    tell(server:port())
  ]],
}

for name, source in pairs(SERVERS) do
  describe("An echo server on " .. name, function()
    it("makes one read and one write for a message, and a share of a wait #bare", function()
      if not syscalls.can_count() then return pending("strace is missing or may not trace") end
      local few = syscalls.count(source, talk(FEW))
      local many = syscalls.count(source, talk(MANY))
      local sum, others = syscalls.sum, syscalls.others
      local known = { "epoll_ctl", "sigaltstack" } -- the latter is the address sanitizer's
      for _, list in ipairs { READS, WRITES, WAITS } do
        table.move(list, 1, #list, #known + 1, known)
      end
      assert.near(1, per_message(few, many, sum, table.unpack(READS)), 0.05)
      assert.near(1, per_message(few, many, sum, table.unpack(WRITES)), 0.05)
      assert.is_true(per_message(few, many, sum, table.unpack(WAITS)) <= 0.5)
      assert.near(0, per_message(few, many, sum, "epoll_ctl"), 0.01)
      assert.near(0, per_message(few, many, others, table.unpack(known)), 0.05)
    end)
  end)
end

describe("Stream:sendfile", function()
  local SOURCE = [[
    local server <close> = moonloop.start_server(function(stream)
      stream:sendfile(%q)
    end, "127.0.0.1", 0)
    tell(server:port())
  ]]

  local MIB = 1024 * 1024

  -- The system calls of a server that sends a file of that size.
  local function count(size)
    local folder <close> = script.folder()
    local path = folder:write("file", "")
    local file <close> = assert(io.open(path, "wb"))
    file:seek("set", size - 1)
    file:write("z")
    file:flush()
    return syscalls.count(SOURCE:format(path), function(port)
      local stream <close> = moonloop.connect("127.0.0.1", port)
      local total, last = 0, nil
      for data in stream:chunks() do total, last = total + #data, data end
      assert(total == size and last:sub(-1) == "z")
    end)
  end

  it("hands a file to the system, however long, and reads and writes none of it #bare", function()
    if not syscalls.can_count() then return pending("strace is missing or may not trace") end
    local short, long = count(MIB), count(17 * MIB)
    assert.is_true(short.sendfile >= 1)
    assert.is_true(long.sendfile >= 1)
    for _, name in ipairs { "read", "pread64", "write", "sendto", "sendmsg", "writev", "mmap" } do
      assert.near(short[name] or 0, long[name] or 0, 4, name)
    end
  end)
end)
