-- SPDX-License-Identifier: MIT
-- moonloop.socket: TCP and Unix sockets from making to closing, what they know of themselves, what
-- the system refuses, and handing one to a Stream or a Server.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local script = require "spec.support.script"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local socket = moonloop.socket

describe("A TCP socket", function()
  for family, host in pairs { inet = "127.0.0.1", inet6 = "::1" } do
    it("listens, connects, accepts, sends and receives by " .. family, function()
      local listener <close> = socket.tcp(family)
      listener:bind { host = host, port = 0 }
      listener:listen()
      local address = listener:getsockname()
      assert.equal(host, address.host)
      local near <close> = socket.tcp(family)
      near:connect(address)
      local far <close>, from = listener:accept()
      assert.same(near:getsockname(), from)
      assert.same(address, near:getpeername())
      assert.same(address, far:getsockname())
      assert.same(from, far:getpeername())
      assert.equal(5, near:send("there"))
      assert.equal("there", far:recv())
      far:sendall("back")
      assert.equal("back", near:recv(100))
    end)
  end

  it("is of IPv4 unless the family is given", function()
    local s <close> = socket.tcp()
    s:bind { host = "127.0.0.1", port = 0 }
    assert.equal("127.0.0.1", s:getsockname().host)
  end)

  it("is bound to every address when there is no host", function()
    local four <close> = socket.tcp()
    local six <close> = socket.tcp("inet6")
    four:bind { port = 0 }
    six:bind { port = 0 }
    assert.equal("0.0.0.0", four:getsockname().host)
    assert.equal("::", six:getsockname().host)
  end)

  it("finds the address of a name that its own family has", function()
    local listener <close>, address = sockets.listener()
    local near <close> = socket.tcp("inet")
    near:connect { host = "localhost", port = address.port }
    assert.same(address, near:getpeername())
    local far <close> = listener:accept()
    assert.is_true(far:fileno() >= 0)
  end)

  it("begins at the address it was bound to", function()
    local listener <close>, address = sockets.listener()
    local near <close> = socket.tcp()
    near:bind { host = "127.0.0.3", port = 0 }
    near:connect(address)
    local _ <close>, from = listener:accept()
    assert.equal("127.0.0.3", from.host)
  end)
end)

describe("A Unix socket", function()
  it("listens, connects, accepts, sends and receives at a path", function()
    local folder <close> = sockets.folder()
    local listener <close> = socket.unix()
    listener:bind { path = folder:file("s") }
    listener:listen()
    assert.same({ path = folder:file("s") }, listener:getsockname())
    local near <close> = socket.unix("stream")
    near:connect { path = folder:file("s") }
    local far <close>, from = listener:accept()
    assert.same({ path = "" }, from)
    assert.same({ path = folder:file("s") }, near:getpeername())
    near:sendall("there")
    assert.equal("there", far:recv())
  end)

  it("can have an abstract name", function()
    local listener <close> = socket.unix()
    local name = "\0moonloop-spec-" .. os.time() .. "-" .. listener:fileno()
    listener:bind { path = name }
    listener:listen()
    assert.same({ path = name }, listener:getsockname())
    local near <close> = socket.unix()
    near:connect { path = name }
    assert.same({ path = name }, near:getpeername())
    local far <close> = listener:accept()
    far:sendall("abstract")
    assert.equal("abstract", near:recv())
    assert.matches("@moonloop-spec", tostring(listener), 1, true)
  end)

  it("raises FileNotFoundError where there is nothing", function()
    local folder <close> = sockets.folder()
    local near <close> = socket.unix()
    local path = folder:file("missing")
    local err = net.raises("FileNotFoundError", near.connect, near, { path = path })
    assert.matches(path, err.message, 1, true)
  end)

  it("raises an OSError that names a path which is too long", function()
    local near <close> = socket.unix()
    local path = "/tmp/" .. ("x"):rep(110)
    local err = net.raises("OSError", near.connect, near, { path = path })
    assert.equal("ENAMETOOLONG", err.code)
    assert.matches(path, err.message, 1, true)
    assert.equal("ENAMETOOLONG", net.raises("OSError", near.bind, near, { path = path }).code)
  end)
end)

describe("socketpair", function()
  it("gives two connected Unix sockets", function()
    local a, b, _ <close> = sockets.socketpair()
    a:sendall("to b")
    b:sendall("to a")
    assert.equal("to b", b:recv())
    assert.equal("to a", a:recv())
    assert.same({ path = "" }, a:getsockname())
    assert.same({ path = "" }, a:getpeername())
  end)

  it("keeps datagrams apart when its type is dgram", function()
    local a, b, _ <close> = sockets.socketpair("dgram")
    a:send("one")
    a:send("")
    a:send("two")
    assert.equal("one", b:recv())
    assert.equal("", b:recv())
    assert.equal("two", b:recv())
  end)
end)

describe("Socket:recv", function()
  it("gives up to n bytes, 65536 by default, and the rest later", function()
    local a, b, _ <close> = sockets.socketpair()
    a:sendall("abcdef")
    assert.equal("ab", b:recv(2))
    assert.equal("cdef", b:recv())
    a:sendall(("x"):rep(70000))
    assert.is_true(#b:recv() <= 65536)
  end)

  it("gives nil at the end of file, again and again", function()
    local a, b, _ <close> = sockets.socketpair()
    a:sendall("last")
    a:close()
    assert.equal("last", b:recv())
    assert.is_nil(b:recv())
    assert.is_nil(b:recv())
  end)

  it("raises ConnectionResetError after a reset", function()
    local near <close>, far = sockets.tcp_pair()
    far:setsockopt("SO_LINGER", 0)
    far:close()
    assert.equal("ECONNRESET", net.raises("ConnectionResetError", near.recv, near).code)
  end)
end)

describe("Socket:recvfrom", function()
  it("gives what came on a stream without an address", function()
    local a, b, _ <close> = sockets.socketpair()
    a:sendall("bytes")
    assert.same({ "bytes", nil }, { b:recvfrom() })
    a:close()
    assert.is_nil((b:recvfrom()))
  end)
end)

describe("Socket:sendall", function()
  it("returns once all of much data is taken by a slow reader", function()
    local near, far, _ <close> = sockets.tcp_pair()
    local text = net.text(3 * 1024 * 1024)
    local sender = moonloop.create_task(near.sendall, near, text)
    local got, size = {}, 0
    while size < #text do
      got[#got + 1] = far:recv(1 + #got * 4099 % 65536)
      size = size + #got[#got]
      moonloop.sleep(0)
    end
    sender:await()
    assert.is_true(table.concat(got) == text)
  end)

  it("goes on after each piece that the system takes", function()
    local a, b, _ <close> = sockets.socketpair()
    local text = net.text(1024 * 1024)
    local sender = tasks.start(a.sendall, a, text)
    assert.is_false(sender:done())
    assert.is_true(sockets.take(b, #text) == text)
    sender:await()
  end)

  it("sends nothing and does not fail for no data", function()
    local a, b, _ <close> = sockets.socketpair()
    a:sendall("")
    assert.equal(0, a:send(""))
    a:sendall("x")
    assert.equal("x", b:recv())
  end)
end)

describe("Socket:shutdown", function()
  it("of writing ends the peer's file, and receiving goes on", function()
    local near, far, _ <close> = sockets.tcp_pair()
    near:shutdown("write")
    assert.is_nil(far:recv())
    far:sendall("still heard")
    assert.equal("still heard", near:recv())
    net.raises("BrokenPipeError", near.send, near, "x")
  end)

  it("of reading ends the file here", function()
    local near, far, _ <close> = sockets.tcp_pair()
    near:shutdown("read")
    assert.is_nil(near:recv())
    near:sendall("still said")
    assert.equal("still said", far:recv())
  end)

  it("of both does both", function()
    local a, b, _ <close> = sockets.socketpair()
    a:shutdown("both")
    assert.is_nil(a:recv())
    assert.is_nil(b:recv())
    net.raises("BrokenPipeError", a.send, a, "x")
    net.raises("BrokenPipeError", b.sendall, b, "x")
  end)
end)

describe("What the system refuses", function()
  it("is ConnectionRefusedError where nobody listens", function()
    local near <close> = socket.tcp()
    local port = net.free_port()
    local err = net.raises("ConnectionRefusedError", near.connect, near,
      { host = "127.0.0.1", port = port })
    assert.equal("ECONNREFUSED", err.code)
    assert.equal(("ConnectionRefusedError: connect 127.0.0.1:%d: Connection refused"):format(port),
      tostring(err))
  end)

  it("is AddressInUseError for an address that is taken", function()
    local _ <close>, address = sockets.listener()
    local second <close> = socket.tcp()
    local err = net.raises("AddressInUseError", second.bind, second, address)
    assert.matches("127.0.0.1:" .. address.port, err.message, 1, true)
  end)

  it("is AddressNotAvailableError for an address that is not ours", function()
    local s <close> = socket.tcp()
    local err = net.raises("AddressNotAvailableError", s.bind, s, { host = "192.0.2.9", port = 0 })
    assert.matches("192.0.2.9:0", err.message, 1, true)
  end)

  it("is an OSError with its code on a socket that is not connected", function()
    local s <close> = socket.tcp()
    for _, call in ipairs { "recv", "getpeername" } do
      assert.equal("ENOTCONN", net.raises("OSError", s[call], s).code)
    end
    assert.equal("ENOTCONN", net.raises("OSError", s.shutdown, s, "both").code)
    net.raises("BrokenPipeError", s.send, s, "x")
  end)

  it("is InvalidStateError from accept on a socket that does not listen", function()
    local s <close> = socket.tcp()
    assert.matches("listen", net.raises("InvalidStateError", s.accept, s).message, 1, true)
  end)

  it("is an OSError when the socket is connected already", function()
    local near, far, _ <close> = sockets.tcp_pair()
    local err = net.raises("OSError", far.connect, far, near:getsockname())
    assert.equal("EISCONN", err.code)
  end)
end)

describe("A descriptor", function()
  it("is given by fileno, and -1 once the socket is closed", function()
    local s = socket.tcp()
    assert.is_true(sockets.is_nonblocking(s:fileno()))
    s:close()
    assert.equal(-1, s:fileno())
  end)

  it("outlives the Socket that it was detached from", function()
    local a, b <close> = socket.socketpair()
    local fd = a:detach()
    assert.equal(-1, a:fileno())
    a:close()
    local again <close> = socket.from_fd(fd)
    assert.equal(fd, again:fileno())
    again:sendall("from the new one")
    assert.equal("from the new one", b:recv())
  end)

  it("is made non-blocking by from_fd", function()
    local listener <close>, address = sockets.listener()
    local folder <close> = script.folder()
    local path = folder:write("inherit.lua", [[
      local moonloop = require "moonloop"
      local s <close> = moonloop.socket.from_fd(3)
      local reader = moonloop.create_task(s.recv, s)
      moonloop.sleep(0)  -- a blocking recv would never come back here
      s:sendall("ready")
      s:sendall(reader:await())]])
    local job = peers.start(("exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d; exec %s %s'")
      :format(address.port, script.binary, path))
    local far <close> = listener:accept()
    assert.equal("ready", far:recv())
    far:sendall("echo")
    assert.equal("echo", far:recv())
    assert.equal(0, (job:wait()))
  end)

  it("that is none is refused by from_fd", function()
    for _, fd in ipairs { 999, -1 } do
      assert.equal("EBADF", net.raises("OSError", socket.from_fd, fd).code)
    end
  end)
end)

describe("tostring of a Socket", function()
  it("says what it is, where, and how it is", function()
    local listener <close>, address = sockets.listener()
    local where = "127.0.0.1:" .. address.port
    assert.equal("Socket: tcp " .. where .. " (listening)", tostring(listener))
    local near = socket.tcp()
    near:connect(address)
    assert.equal("Socket: tcp " .. where .. " (open)", tostring(near))
    near:close()
    assert.equal("Socket: tcp " .. where .. " (closed)", tostring(near))
  end)
end)

describe("connect with the option sock", function()
  it("makes a Stream of a connected Socket, which is empty then", function()
    local near, far, _ <close> = sockets.tcp_pair()
    local stream <close> = moonloop.connect(nil, nil, { sock = near })
    assert.equal(-1, near:fileno())
    net.raises("InvalidStateError", near.recv, near)
    stream:write("over the stream")
    assert.equal("over the stream", far:recv())
    far:sendall("and back\n")
    assert.equal("and back\n", stream:readline())
    assert.same(far:getsockname(), stream:get_extra_info("peername"))
  end)

  it("takes a descriptor too, which it closes in the end", function()
    local a, b <close> = socket.socketpair()
    do
      local reader <close>, writer = moonloop.open_connection(nil, nil, { sock = a:detach() })
      writer:write("by number")
      assert.equal("by number", b:recv())
      assert.is_true(rawequal(reader, writer))
    end
    assert.is_nil(b:recv())
  end)
end)

describe("start_server with the option sock", function()
  local function serve_on(sock, address)
    local server <close> = moonloop.start_server(function(stream)
      stream:write(stream:readline())
    end, nil, nil, { sock = sock })
    assert.equal(address.port, server:port())
    local client <close> = moonloop.connect("127.0.0.1", address.port)
    client:write("echo\n")
    assert.equal("echo\n", client:readline())
  end

  it("serves on a listening Socket and closes it in the end", function()
    local listener <close>, address = sockets.listener()
    serve_on(listener, address)
    net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.1", address.port)
  end)

  it("serves on a descriptor", function()
    local listener, address = sockets.listener()
    serve_on(listener:detach(), address)
    net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.1", address.port)
  end)

  it("serves on a list of both", function()
    local first <close>, at_first = sockets.listener()
    local second, at_second = sockets.listener { host = "127.0.0.2" }
    local server <close> = moonloop.start_server(function(stream) stream:write("hello") end,
      nil, nil, { sock = { first, second:detach() } })
    assert.same({ at_first, at_second }, server:sockets())
    for _, address in ipairs(server:sockets()) do
      local client <close> = moonloop.connect(address.host, address.port)
      assert.equal("hello", client:read())
    end
  end)
end)
