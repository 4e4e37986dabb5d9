-- SPDX-License-Identifier: MIT
-- Protocols over other connections than TCP ones that the loop makes: Unix sockets by path and
-- by abstract name and sockets that were accepted elsewhere.
local lfs = require "lfs"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local function finish(server)
  server:close()
  server:wait_closed()
end

-- Has a client say hello to a server's protocol at `path`, and both close. Awaits.
local function greet(path)
  local client = protocols.recorder()
  loop:create_unix_connection(function() return client end, path)
  client.transport:write("hello")
  client.transport:write_eof()
  local answer = client:finished()
  client:lost()
  client:check()
  return answer
end

local Echo = moonloop.Protocol:extend {
  connection_made = function(self, transport) self.transport = transport end,
  data_received = function(self, data) self.transport:write(data) end,
}

describe("create_unix_server and create_unix_connection", function()
  it("meet at a path, which is gone once the server is closed", function()
    local folder <close> = sockets.folder()
    local path = folder:file("here")
    local server = loop:create_unix_server(Echo, path)
    assert.equal("socket", lfs.attributes(path, "mode"))
    assert.equal("hello", greet(path))
    assert.same({ { path = path } }, server:sockets())
    net.raises("InvalidStateError", server.port, server)
    finish(server)
    assert.is_nil(lfs.attributes(path))
    net.raises("FileNotFoundError", greet, path)
  end)

  it("meet at an abstract name", function()
    local name = protocols.abstract_name()
    local server = loop:create_unix_server(Echo, name)
    assert.equal("hello", greet(name))
    finish(server)
    local err = net.raises("ConnectionRefusedError", greet, name)
    assert.matches("@" .. name:sub(2), tostring(err), 1, true)
  end)

  it("know the path, and who is at the other end", function()
    local folder <close> = sockets.folder()
    local path = folder:file("here")
    local peer = protocols.recorder()
    local server = loop:create_unix_server(function() return peer end, path)
    local client = protocols.recorder()
    local transport = loop:create_unix_connection(function() return client end, path)
    peer:wait(function() return peer.transport end)
    assert.same({ path = path }, transport:get_extra_info("peername"))
    assert.same({ path = "" }, transport:get_extra_info("sockname"))
    assert.same({ path = path }, peer.transport:get_extra_info("sockname"))
    local mine = math.tointeger(lfs.symlinkattributes("/proc/self", "target"))
    for _, one in ipairs { client, peer } do
      local cred = one.transport:get_extra_info("peercred")
      assert.equal(mine, cred.pid)
      assert.is_true(math.type(cred.uid) == "integer" and math.type(cred.gid) == "integer")
    end
    assert.equal("Transport: unix " .. path .. " (open)", tostring(transport))
    transport:close()
    client:lost()
    peer:lost()
    finish(server)
  end)

  it("raise for a path that is in use, a folder that is not there, one too long", function()
    local folder <close> = sockets.folder()
    local path = folder:file("here")
    local server = loop:create_unix_server(Echo, path)
    net.raises("AddressInUseError", loop.create_unix_server, loop, Echo, path)
    net.raises("FileNotFoundError", loop.create_unix_server, loop, Echo,
      folder:file("no/folder"))
    local long = path .. ("x"):rep(108)
    assert.equal("ENAMETOOLONG", net.raises("OSError", loop.create_unix_server, loop, Echo,
      long).code)
    assert.equal("ENAMETOOLONG", net.raises("OSError", loop.create_unix_connection, loop, Echo,
      long).code)
    assert.equal("hello", greet(path))
    finish(server)
  end)

  it("take over the path of a server that is no more, and no other file", function()
    local folder <close> = sockets.folder()
    local path = folder:file("here")
    local socket = moonloop.socket.unix()
    socket:bind { path = path }
    socket:close() -- and the path stays
    net.raises("ConnectionRefusedError", greet, path)
    local server = loop:create_unix_server(Echo, path)
    assert.equal("hello", greet(path))
    finish(server)
    local _ <close> = assert(io.open(path, "w"))
    net.raises("AddressInUseError", loop.create_unix_server, loop, Echo, path)
    assert.equal("file", lfs.attributes(path, "mode"))
  end)

  it("take a mode, and sockets that are there already", function()
    local folder <close> = sockets.folder()
    local path = folder:file("here")
    local server = loop:create_unix_server(Echo, path, { mode = "600" })
    assert.equal("rw-------", lfs.attributes(path, "permissions"))
    finish(server)
    local listener = moonloop.socket.unix()
    listener:bind { path = path }
    listener:listen()
    server = loop:create_unix_server(Echo, nil, { sock = listener })
    local socket = moonloop.socket.unix()
    socket:connect { path = path }
    local client = protocols.recorder()
    loop:create_unix_connection(function() return client end, nil, { sock = socket })
    client.transport:write("by sock")
    assert.equal("by sock", client:received(7))
    client.transport:close()
    client:lost()
    finish(server)
  end)

  it("raise what the factory raises, or report it", function()
    local reports <close> = tasks.reports()
    local name = protocols.abstract_name()
    local server = loop:create_unix_server(function() error("not for you", 0) end, name)
    local stream = moonloop.connect_unix(name)
    assert.is_nil(stream:read(1))
    wait_all_blocked()
    assert.equal(1, #reports)
    assert.equal("not for you", tasks.raised(loop.create_unix_connection, loop, function()
      error("not for you", 0)
    end, name))
    stream:close()
    finish(server)
  end)
end)

describe("connect_accepted_socket", function()
  it("takes a Socket that was accepted elsewhere, and empties it", function()
    local near, far = sockets.tcp_pair()
    local protocol = protocols.recorder()
    local transport, same = loop:connect_accepted_socket(function() return protocol end, far)
    assert.equal(protocol, same)
    assert.equal(transport, protocol.transport)
    assert.equal(-1, far:fileno())
    assert.equal("made", protocol:order())
    near:sendall("from a socket")
    assert.equal("from a socket", protocol:received(13))
    transport:write("to a socket")
    assert.equal("to a socket", sockets.take(near, 11))
    near:close()
    assert.is_nil(protocol:lost())
    protocol:check()
  end)

  it("takes a descriptor, which it owns from then on", function()
    local near, far = moonloop.socket.socketpair()
    local fd = far:detach()
    local protocol = protocols.recorder()
    local transport = loop:connect_accepted_socket(function() return protocol end, fd)
    near:sendall("x")
    assert.equal("x", protocol:received(1))
    assert.equal(fd, transport:get_extra_info("socket"):fileno())
    transport:close()
    protocol:lost()
    assert.is_false(pipes.is_open(fd))
    assert.is_nil(near:recv())
    near:close()
  end)

  it("refuses a Socket that is closed, and never calls the factory", function()
    local closed = moonloop.socket.tcp()
    closed:close()
    local called = false
    assert.is_false(pcall(loop.connect_accepted_socket, loop, function()
      called = true
      return {}
    end, closed))
    assert.is_false(called)
  end)

  it("leaves nothing open when it is cancelled before connection_made", function()
    local near, far = moonloop.socket.socketpair()
    local protocol = protocols.recorder()
    local task = moonloop.create_task({ eager_start = true }, function()
      loop:connect_accepted_socket(function() return protocol end, far)
    end)
    assert.is_false(task:done())
    assert.is_true(tasks.cancel(task))
    wait_all_blocked()
    assert.is_true(protocol:order() == "" or protocol:order() == "made lost")
    protocol:check()
    assert.equal(-1, far:fileno())
    assert.is_nil(near:recv())
    near:close()
  end)

  it("closes the socket when the factory raises", function()
    local near, far = moonloop.socket.socketpair()
    assert.equal("no", tasks.raised(loop.connect_accepted_socket, loop, function()
      error("no", 0)
    end, far))
    assert.equal(-1, far:fileno())
    assert.is_nil(near:recv())
    near:close()
  end)
end)
