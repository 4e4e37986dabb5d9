-- SPDX-License-Identifier: MIT
-- Arguments of streams, transports and protocols that make no sense, alone or together: the
-- message names the function that was called, and nothing is left open.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local sockets = require "spec.support.sockets"

local loop = moonloop.get_event_loop()

describe("The option local_addr", function()
  it("passes over the addresses of a host that are of another family", function()
    local server <close> = moonloop.start_server(function(stream) stream:write("hello") end,
      "127.0.0.1", 0)
    local stream <close> = moonloop.connect("localhost", server:port(),
      { local_addr = { host = "127.0.0.1" } })
    assert.equal("hello", stream:read())
    assert.equal("127.0.0.1", stream:get_extra_info("sockname").host)
  end)

  it("of a family that the host does not have is a DNSError", function()
    net.raises("DNSError", moonloop.connect, "127.0.0.1", 9, { local_addr = { host = "::1" } })
  end)

  it("of another family than the option family is refused", function()
    net.refuses("#3 to 'connect'", moonloop.connect, "localhost", 9,
      { local_addr = { host = "::1" }, family = "inet" })
    net.refuses("#4 to 'create_connection'", loop.create_connection, loop, moonloop.Protocol,
      "localhost", 9, { local_addr = { host = "::1" }, family = "inet" })
  end)
end)

describe("The option sock", function()
  it("is refused where it is a datagram socket and a stream is wanted", function()
    local remote <close> = moonloop.socket.udp()
    remote:bind { host = "127.0.0.1", port = 0 }
    local udp <close> = moonloop.socket.udp()
    udp:connect(remote:getsockname())
    net.refuses("#3 to 'connect'", moonloop.connect, nil, nil, { sock = udp })
    net.refuses("#3 to 'open_connection'", moonloop.open_connection, nil, nil, { sock = udp })
    net.refuses("#2 to 'connect_unix'", moonloop.connect_unix, nil, { sock = udp })
    net.refuses("#4 to 'create_connection'", loop.create_connection, loop, moonloop.Protocol, nil,
      nil, { sock = udp })
    net.refuses("#2 to 'connect_accepted_socket'", loop.connect_accepted_socket, loop,
      moonloop.Protocol, udp)
    net.refuses("#4 to 'start_server'", moonloop.start_server, print, nil, nil, { sock = udp })
    udp:send("still the program's")
    assert.equal("still the program's", remote:recv())
  end)

  it("stands alone: neither host, port and path nor another address beside it", function()
    local near, _, _ <close> = sockets.socketpair()
    net.refuses("#1 to 'connect'", moonloop.connect, "127.0.0.1", nil, { sock = near })
    net.refuses("#2 to 'connect'", moonloop.connect, nil, 9, { sock = near })
    net.refuses("#1 to 'connect_unix'", moonloop.connect_unix, "path", { sock = near })
    net.refuses("#2 to 'start_server'", moonloop.start_server, print, "::1", nil, { sock = near })
    net.refuses("#3 to 'start_server'", moonloop.start_server, print, nil, 0, { sock = near })
    local udp <close> = moonloop.socket.udp()
    for option, value in pairs {
      local_addr = { host = "127.0.0.1" }, remote_addr = { host = "127.0.0.1", port = 9 },
      reuse_port = true, allow_broadcast = true, family = "inet",
    } do
      net.refuses(option, loop.create_datagram_endpoint, loop, moonloop.DatagramProtocol,
        { sock = udp, [option] = value })
    end
    assert.is_true(udp:fileno() >= 0)
    assert.is_true(near:fileno() >= 0)
  end)
end)

describe("The option timeout", function()
  it("is refused where it is no number of seconds", function()
    for _, seconds in ipairs { 0 / 0, -(0 / 0) } do
      net.refuses("#3 to 'connect'", moonloop.connect, "127.0.0.1", 9, { timeout = seconds })
      net.refuses("#2 to 'connect_unix'", moonloop.connect_unix, "path", { timeout = seconds })
      net.refuses("#4 to 'create_connection'", loop.create_connection, loop, moonloop.Protocol,
        "127.0.0.1", 9, { timeout = seconds })
    end
  end)
end)

describe("Protocol:extend", function()
  it("is refused with a dot instead of a colon", function()
    net.refuses("extend", moonloop.Protocol.extend, { data_received = print })
    net.refuses("extend", moonloop.DatagramProtocol.extend, { datagram_received = print })
  end)

  it("refuses what is no table of methods", function()
    net.refuses("#1 to 'extend'", function() moonloop.Protocol:extend(5) end)
    net.refuses("#1 to 'extend'", function() moonloop.Protocol:extend("methods") end)
  end)
end)

describe("sendfile", function()
  it("called on another value than a Stream names itself", function()
    local pair <close> = pipes.pair()
    net.refuses("'sendfile'", pair.client.sendfile, 5, "/dev/null")
    net.refuses("'sendfile'", pair.client.sendfile, {}, "/dev/null")
    net.refuses("#1 to 'sendfile'", loop.sendfile, loop, pair.client, "/dev/null")
  end)
end)

describe("DatagramTransport:sendto", function()
  it("takes a number as Datagram:send does, and refuses what is neither", function()
    local receiver <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
    local protocol = protocols.recorder()
    local transport = loop:create_datagram_endpoint(function() return protocol end,
      { remote_addr = receiver:getsockname() })
    transport:sendto(42)
    assert.equal("42", (receiver:recv()))
    net.refuses("#1 to 'sendto'", transport.sendto, transport, {})
    net.refuses("#1 to 'sendto'", transport.sendto, transport)
    transport:abort()
    protocol:lost()
  end)
end)
