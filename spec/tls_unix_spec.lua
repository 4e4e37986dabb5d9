-- SPDX-License-Identifier: MIT
-- TLS over Unix sockets: paths and abstract names, streams and protocols, both ends of a
-- socketpair; the name to check, which a path does not give; failures, and what the socket
-- below goes on to tell.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local loop = moonloop.get_event_loop()

local function echo(stream)
  for chunk in stream:chunks() do stream:write(chunk) end
end

local function server_at(path, context, opts)
  opts = opts or {}
  opts.tls = context or tls.server()
  return moonloop.start_unix_server(echo, path, opts)
end

-- Options of a client that checks for "localhost".
local function named(context)
  return { tls = context or tls.client(), server_hostname = "localhost" }
end

describe("TLS over a Unix socket", function()
  local PLACES = {
    ["of a path"] = pipes.free_path,
    ["of an abstract name"] = function()
      return setmetatable({ path = protocols.abstract_name() }, { __close = function() end })
    end,
  }

  for what, place in pairs(PLACES) do
    it(what .. " carries a conversation, by both versions", function()
      for _, version in ipairs(link.VERSIONS) do
        local client, context = link.contexts(version)
        local there <close> = place()
        local _ <close> = server_at(there.path, context)
        local stream <close> = moonloop.connect_unix(there.path, named(client))
        assert.equal(version, stream:get_extra_info("tls").version)
        tls.talk(stream)
        stream:write_eof()
        assert.equal("", stream:read())
      end
    end)
  end

  it("gives reader and writer as one stream, as open_connection does", function()
    local path = protocols.abstract_name()
    local _ <close> = server_at(path)
    local reader, writer = moonloop.open_unix_connection(path, named())
    assert.is_true(rawequal(reader, writer))
    tls.talk(writer)
    reader:close()
  end)

  it("carries much both ways at once", function()
    local path = protocols.abstract_name()
    local _ <close> = server_at(path)
    local stream <close> = moonloop.connect_unix(path, named())
    local text = net.text(1024 * 1024)
    local writer = moonloop.create_task(function()
      stream:write(text)
      stream:write_eof()
    end)
    assert.is_true(stream:read() == text)
    writer:await()
  end)

  it("knows the socket below", function()
    local place <close> = pipes.free_path()
    local _ <close> = server_at(place.path)
    local stream <close> = moonloop.connect_unix(place.path, named())
    assert.same({ path = place.path }, stream:get_extra_info("peername"))
    assert.equal("number", type(stream:get_extra_info("peercred").pid))
    assert.equal("localhost", stream:get_extra_info("tls").server_hostname)
  end)

  it("wants the name to check, unless nothing is checked", function()
    local _ <close> = tls.reports() -- verify=false is warned about once
    local path = protocols.abstract_name()
    local _ <close> = server_at(path)
    net.refuses("server_hostname", moonloop.connect_unix, path, { tls = tls.client() })
    local stream <close> = moonloop.connect_unix(path, { tls = tls.client { verify = false } })
    tls.talk(stream)
    local unchecked <close> = moonloop.connect_unix(path, {
      tls = tls.client(), server_hostname = "",
    })
    tls.talk(unchecked)
  end)

  it("checks that name", function()
    local reports <close> = tls.reports()
    local path = protocols.abstract_name()
    local _ <close> = server_at(path)
    local err = net.raises("CertificateError", moonloop.connect_unix, path, {
      tls = tls.client(), server_hostname = "other.example",
    })
    assert.matches("wrong host", err.message, 1, true)
    assert.equal("TLS handshake with a client failed", reports:wait().message)
  end)

  it("fails with a peer that speaks something else, on both sides", function()
    local reports <close> = tls.reports()
    local path = protocols.abstract_name()
    local _ <close> = server_at(path)
    local plain <close> = moonloop.connect_unix(path)
    plain:write("GET / HTTP/1.0\r\n\r\n")
    assert.equal("HTTP_REQUEST", reports:wait().error.code)
    local other = protocols.abstract_name()
    local _ <close> = moonloop.start_unix_server(function(stream)
      stream:write("220 hello there\r\n")
      stream:peek(1)
    end, other)
    net.raises("TLSError", moonloop.connect_unix, other, named())
  end)

  it("is bound by the time limits", function()
    local path = protocols.abstract_name()
    local _ <close> = moonloop.start_unix_server(moonloop.sleep_forever, path)
    for _, option in ipairs { "timeout", "tls_handshake_timeout" } do
      local opts = named()
      opts[option] = 0.02
      net.raises("TimeoutError", moonloop.connect_unix, path, opts)
    end
    local reports <close> = tls.reports()
    local other = protocols.abstract_name()
    local _ <close> = server_at(other, nil, { tls_handshake_timeout = 0.02 })
    local client <close> = moonloop.connect_unix(other)
    assert.is_true(moonloop.is_error(reports:wait().error, "TimeoutError"))
    client:abort()
  end)

  it("serves a client while others are silent, and takes its file away", function()
    local place <close> = pipes.free_path()
    do
      local _ <close> = server_at(place.path)
      local silent <close> = moonloop.connect_unix(place.path)
      local stream <close> = moonloop.connect_unix(place.path, named())
      tls.talk(stream)
      stream:close()
      silent:close()
    end
    assert.is_nil(io.open(place.path))
  end)

  it("is an end without close_notify where the peer aborts", function()
    local path = protocols.abstract_name()
    local _ <close> = moonloop.start_unix_server(function(stream)
      stream:write("part")
      stream:drain()
      stream:abort()
    end, path, { tls = tls.server() })
    local stream <close> = moonloop.connect_unix(path, named())
    local err = net.raises("TLSError", stream.readexactly, stream, 100)
    assert.same({ "EOF", "part", 100 }, { err.code, err.partial, err.expected })
  end)
end)

describe("TLS over a socketpair", function()
  it("begins with sock= on one end and start_tls on the other", function()
    local one, other = moonloop.socket.socketpair()
    local peer <close> = moonloop.connect(nil, nil, { sock = other })
    local there = moonloop.create_task(peer.start_tls, peer, tls.server())
    local opts = named()
    opts.sock = one
    local stream <close> = moonloop.connect(nil, nil, opts)
    there:await()
    stream:write("hello\n")
    assert.equal("hello\n", peer:readline())
  end)

  it("wants the name to check with sock=, too", function()
    local one, other = moonloop.socket.socketpair()
    net.refuses("server_hostname", moonloop.connect, nil, nil, { sock = one, tls = tls.client() })
    one:close()
    other:close()
  end)
end)

describe("Protocols over TLS over a Unix socket", function()
  it("hear what those over TCP hear", function()
    local pair <close> = protocols.pair {
      kind = "unix", client_options = named(), server_options = { tls = tls.server() },
    }
    pair.client.transport:write("there")
    assert.equal("there", pair.peer:received(5))
    pair.peer.transport:write("and back")
    pair.peer.transport:close()
    assert.equal("and back", pair.client:finished())
    assert.is_nil(pair.client:lost())
    assert.is_nil(pair.peer:lost())
    assert.equal("made data eof lost", pair.client:order())
  end)

  it("never hear of a connection whose handshake fails", function()
    local reports <close> = tls.reports()
    local path = protocols.abstract_name()
    local _ <close> = server_at(path)
    local recorder = protocols.recorder()
    assert.equal("CertificateError", tasks.kind(loop.create_unix_connection, loop,
      function() return recorder end, path, { tls = tls.client(), server_hostname = "x.example" }))
    assert.equal("", recorder:order())
    reports:wait()
  end)
end)
