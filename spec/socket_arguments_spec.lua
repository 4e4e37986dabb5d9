-- SPDX-License-Identifier: MIT
-- What moonloop.socket says to bad arguments (at once, as a plain string), and to calls on a Socket
-- that is closed.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"

local refuses = sockets.refuses
local socket = moonloop.socket

-- Calls a function of the module, which must refuse its argument.
local function module_refuses(name, ...)
  local call = load(("local s, a = ... local _ = s.%s(table.unpack(a, 1, a.n))"):format(name))
  return net.refuses(("bad argument #1 to '%s'"):format(name), call, socket, table.pack(...))
end

describe("moonloop.socket", function()
  it("refuses a family that it does not have, and says which there are", function()
    for _, name in ipairs { "tcp", "udp" } do
      local said = module_refuses(name, "inet7")
      assert.matches("inet6", said, 1, true)
      assert.matches("inet7", said, 1, true)
      module_refuses(name, {})
      module_refuses(name, "unix")
    end
  end)

  it("refuses a type that it does not have, and says which there are", function()
    for _, name in ipairs { "unix", "socketpair" } do
      local said = module_refuses(name, "seqpacket")
      assert.matches("dgram", said, 1, true)
      module_refuses(name, 5)
    end
  end)

  it("refuses what cannot be a descriptor", function()
    module_refuses("from_fd", 1.5)
    module_refuses("from_fd", "stdin")
    module_refuses("from_fd")
  end)
end)

describe("An address", function()
  for _, name in ipairs { "bind", "connect" } do
    it("that is none is refused by " .. name, function()
      local s <close> = socket.tcp()
      refuses(1, s, name, nil)
      refuses(1, s, name, "127.0.0.1:80")
      refuses(1, s, name, { host = "127.0.0.1", port = 65536 })
      refuses(1, s, name, { host = "127.0.0.1", port = -1 })
      refuses(1, s, name, { host = "127.0.0.1", port = "http" })
      refuses(1, s, name, { host = 5, port = 80 })
    end)

    it("with a field that it does not have is refused by " .. name .. ", which names the nearest",
      function()
        local s <close> = socket.tcp()
        local said = refuses(1, s, name, { hots = "127.0.0.1", port = 80 })
        assert.matches("hots", said, 1, true)
        assert.matches("'host'", said, 1, true)
      end)

    it("of the other sort of socket is refused by " .. name, function()
      local tcp <close> = socket.tcp()
      local unix <close> = socket.unix()
      refuses(1, tcp, name, { path = "/tmp/x" })
      refuses(1, unix, name, { host = "127.0.0.1", port = 80 })
      refuses(1, unix, name, { path = 5 })
      refuses(1, unix, name, {})
    end)
  end

  it("is needed by sendto", function()
    local s <close> = socket.udp()
    refuses(2, s, "sendto", "data")
    refuses(2, s, "sendto", "data", { path = "/tmp/x" })
    refuses(2, s, "sendto", "data", { host = "127.0.0.1", port = 70000 })
    refuses(1, s, "sendto", nil, { host = "127.0.0.1", port = 9 })
  end)

  it("of the other family is not taken", function()
    local s <close> = socket.tcp("inet")
    local ok, err = pcall(s.connect, s, { host = "::1", port = 9 })
    assert.is_false(ok)
    assert.matches("::1", tostring(err), 1, true)
  end)
end)

describe("A Socket", function()
  it("refuses a backlog that is none", function()
    local s <close> = socket.tcp()
    s:bind { host = "127.0.0.1", port = 0 }
    refuses(1, s, "listen", -1)
    refuses(1, s, "listen", "many")
    refuses(1, s, "listen", 0.5)
  end)

  it("refuses a number of bytes that is none", function()
    local s, _, _ <close> = sockets.socketpair()
    for _, name in ipairs { "recv", "recvfrom" } do
      refuses(1, s, name, -1)
      refuses(1, s, name, "all")
      refuses(1, s, name, 1.5)
    end
  end)

  it("refuses data that is no string", function()
    local s, _, _ <close> = sockets.socketpair()
    for _, name in ipairs { "send", "sendall" } do
      refuses(1, s, name, nil)
      refuses(1, s, name, {})
      refuses(1, s, name, true)
    end
  end)

  it("refuses to shut down what it has not, and says what there is", function()
    local s, _, _ <close> = sockets.socketpair()
    local said = refuses(1, s, "shutdown", "up")
    assert.matches("both", said, 1, true)
    refuses(1, s, "shutdown", nil)
    refuses(1, s, "shutdown", 2)
  end)

  it("is not another value", function()
    local s <close> = socket.tcp()
    for _, name in ipairs { "recv", "send", "close", "fileno", "getsockopt", "bind" } do
      local ok, err = pcall(s[name], io.stdout, "x")
      assert.is_false(ok)
      assert.equal("string", type(err))
      assert.matches("Socket", err, 1, true)
    end
  end)
end)

describe("A Socket that is closed", function()
  local CALLS = {
    bind = { { host = "127.0.0.1", port = 0 } }, listen = {}, accept = {},
    connect = { { host = "127.0.0.1", port = 9 } }, recv = {}, recvfrom = {}, send = { "x" },
    sendall = { "x" }, sendto = { "x", { host = "127.0.0.1", port = 9 } },
    shutdown = { "both" }, setsockopt = { "SO_REUSEADDR", true }, getsockopt = { "SO_REUSEADDR" },
    getsockname = {}, getpeername = {}, detach = {},
  }

  for name, args in pairs(CALLS) do
    it("raises InvalidStateError from " .. name, function()
      local s = socket.tcp()
      s:close()
      local err = net.raises("InvalidStateError", s[name], s, table.unpack(args))
      assert.matches("closed", err.message, 1, true)
    end)
  end

  it("may be closed again, and closed it was by <close>", function()
    local s
    do
      local inner <close> = socket.tcp()
      s = inner
    end
    assert.equal(-1, s:fileno())
    s:close()
    s:close()
  end)

  it("is as closed after detach", function()
    local a, _ <close> = socket.socketpair()
    local again <close> = socket.from_fd(a:detach())
    net.raises("InvalidStateError", a.recv, a)
    assert.is_true(again:fileno() >= 0)
  end)

  it("has ended its connection", function()
    local near, far <close> = sockets.tcp_pair()
    near:close()
    assert.is_nil(far:recv())
  end)
end)

describe("A Socket outside any task", function()
  it("raises from a call that would await", function()
    local a, _, _ <close> = sockets.socketpair()
    local seen = moonloop.Future()
    moonloop.get_running_loop():call_soon(function() seen:set_result(pcall(a.recv, a)) end)
    local ok, err = seen:await()
    assert.is_false(ok)
    assert.matches("no running task", tostring(err), 1, true)
  end)
end)
