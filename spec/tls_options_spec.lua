-- SPDX-License-Identifier: MIT
-- The options that have to do with TLS where connections and servers are made: the context's
-- role, the name to check, the time limits, and that none of them does without `tls`.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local script = require "spec.support.script"
local sockets = require "spec.support.sockets"
local tls = require "spec.support.tls"

local loop = moonloop.get_event_loop()

-- Every function that makes a client's connection: its name, the option table's position, and a
-- call of it.
local CLIENTS = {
  { "connect", 3, function(opts) return moonloop.connect("127.0.0.1", 9, opts) end },
  { "open_connection", 3, function(opts)
    return moonloop.open_connection("127.0.0.1", 9, opts)
  end },
  { "connect_unix", 2, function(opts) return moonloop.connect_unix("/nowhere/x", opts) end },
  { "open_unix_connection", 2, function(opts)
    return moonloop.open_unix_connection("/nowhere/x", opts)
  end },
  { "create_connection", 4, function(opts)
    return loop:create_connection(moonloop.Protocol, "127.0.0.1", 9, opts)
  end },
  { "create_unix_connection", 3, function(opts)
    return loop:create_unix_connection(moonloop.Protocol, "/nowhere/x", opts)
  end },
}

-- Likewise for servers.
local SERVERS = {
  { "start_server", 4, function(opts)
    return moonloop.start_server(print, "127.0.0.1", 0, opts)
  end },
  { "start_unix_server", 3, function(opts)
    return moonloop.start_unix_server(print, "/nowhere/x", opts)
  end },
  { "create_server", 4, function(opts)
    return loop:create_server(moonloop.Protocol, "127.0.0.1", 0, opts)
  end },
  { "create_unix_server", 3, function(opts)
    return loop:create_unix_server(moonloop.Protocol, "/nowhere/x", opts)
  end },
}

-- Each of the functions has to refuse these options with a message that has `words`.
local function all_refuse(functions, words, options)
  for _, entry in ipairs(functions) do
    local name, position, fn = table.unpack(entry)
    local said = net.refuses(("bad argument #%d to '%s'"):format(position, name), fn, options)
    assert.matches(words, said, 1, true)
  end
end

describe("The option tls", function()
  it("is a context or true for clients", function()
    for _, value in ipairs { 42, "context", {}, print, io.stdout } do
      all_refuse(CLIENTS, "tls", { tls = value, server_hostname = "x" })
    end
  end)

  it("is a context for servers, which true is not", function()
    for _, value in ipairs { 42, "context", {}, print, io.stdout } do
      all_refuse(SERVERS, "tls", { tls = value })
    end
    all_refuse(SERVERS, "server_context", { tls = true })
  end)

  it("is refused with a context of the other role", function()
    all_refuse(CLIENTS, "for clients", { tls = tls.server(), server_hostname = "x" })
    all_refuse(SERVERS, "for servers", { tls = tls.client() })
  end)

  it("as false is plain", function()
    local server <close> = moonloop.start_server(function(stream) stream:write("plain") end,
      "127.0.0.1", 0, { tls = false })
    local stream <close> = moonloop.connect("127.0.0.1", server:port(), { tls = false })
    assert.equal("plain", stream:read())
    assert.is_nil(stream:get_extra_info("tls"))
    assert.is_nil(stream:get_extra_info("cipher"))
    assert.is_nil(stream:get_extra_info("peercert"))
  end)

  it("of an accepted socket is a server context", function()
    for _, value in ipairs { tls.client(), true, 42 } do
      local near, _, _ <close> = sockets.socketpair()
      net.refuses("tls", loop.connect_accepted_socket, loop, moonloop.Protocol, near,
        { tls = value })
      assert.is_true(near:fileno() >= 0)
    end
  end)
end)

describe("Options that only TLS has", function()
  it("are refused without it", function()
    for option, value in pairs {
      server_hostname = "x", tls_handshake_timeout = 1, tls_shutdown_timeout = 1,
    } do
      all_refuse(CLIENTS, ("'%s' is only for 'tls'"):format(option), { [option] = value })
    end
    for _, option in ipairs { "tls_handshake_timeout", "tls_shutdown_timeout" } do
      all_refuse(SERVERS, ("'%s' is only for 'tls'"):format(option), { [option] = 1 })
    end
  end)

  it("are numbers of seconds, where they are times", function()
    local client, server = tls.client(), tls.server()
    for _, option in ipairs { "tls_handshake_timeout", "tls_shutdown_timeout" } do
      for _, value in ipairs { -1, "1", true, {}, 0 / 0 } do
        all_refuse(CLIENTS, option, { tls = client, server_hostname = "x", [option] = value })
        all_refuse(SERVERS, option, { tls = server, [option] = value })
      end
    end
  end)

  it("have a name that a host could have, and for clients only", function()
    local context = tls.client()
    for _, value in ipairs { 42, true, {}, "a\0b", "a b", ("x"):rep(256) } do
      all_refuse(CLIENTS, "server_hostname", { tls = context, server_hostname = value })
    end
    all_refuse(SERVERS, "server_hostname", { tls = tls.server(), server_hostname = "x" })
  end)
end)

describe("The option server_hostname", function()
  it("has to be given where there is no one host", function()
    local context = tls.client()
    local near, _, _ <close> = sockets.socketpair()
    net.refuses("server_hostname", moonloop.connect, { "127.0.0.1", "::1" }, 9, { tls = context })
    net.refuses("server_hostname", moonloop.connect_unix, "/nowhere/x", { tls = context })
    net.refuses("server_hostname", moonloop.connect, nil, nil, { sock = near, tls = context })
    net.refuses("server_hostname", loop.create_unix_connection, loop, moonloop.Protocol,
      "/nowhere/x", { tls = context })
    assert.is_true(near:fileno() >= 0)
  end)

  it("need not be given there where nothing is verified", function()
    local context = tls.client { verify = false }
    net.raises("FileNotFoundError", moonloop.connect_unix, "/nowhere/x", { tls = context })
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local stream <close> = moonloop.connect({ "127.0.0.1" }, server:port(), { tls = context })
    tls.talk(stream)
    assert.is_nil(stream:get_extra_info("tls").server_hostname)
    assert.equal(0, #reports)
  end)

  it("makes a list of hosts, a socket and a Unix path verified ones", function()
    local context = tls.client()
    local server <close> = tls.echo()
    local listed <close> = moonloop.connect({ "127.0.0.1" }, server:port(),
      { tls = context, server_hostname = "localhost" })
    tls.talk(listed)
    local sock <close> = moonloop.socket.tcp()
    sock:connect { host = "127.0.0.1", port = server:port() }
    local given <close> = moonloop.connect(nil, nil,
      { sock = sock, tls = context, server_hostname = "localhost" })
    tls.talk(given)
    local folder <close> = script.folder()
    local path = folder.path .. "/socket"
    local unix <close> = moonloop.start_unix_server(function(stream)
      stream:write(stream:readline())
    end, path, { tls = tls.server() })
    assert.is_true(unix:is_serving())
    local below <close> = moonloop.connect_unix(path,
      { tls = context, server_hostname = "localhost" })
    tls.talk(below)
    for _, stream in ipairs { listed, given, below } do
      assert.is_true(stream:get_extra_info("tls").verified)
    end
  end)
end)

describe("The option tls = true", function()
  it("is one context for all, which verifies by the system's authorities", function()
    local server <close> = tls.echo()
    local reports <close> = tls.reports()
    for count = 1, 2 do
      local err = net.raises("CertificateError", moonloop.connect, "localhost", server:port(),
        { tls = true, family = "inet" })
      assert.matches("unknown authority", err.message, 1, true)
      assert.equal(certs.text(certs.server.cert), err.peercert.pem)
      reports:wait(count)
    end
  end)
end)
