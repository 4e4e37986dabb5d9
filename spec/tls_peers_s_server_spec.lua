-- SPDX-License-Identifier: MIT
-- TLS clients of ours with openssl's s_server at the other end: both versions, ALPN, names,
-- client certificates, resumption, key updates, renegotiation and every way in which a
-- connection ends.
local certs = require "spec.support.certificates"
local net = require "spec.support.net"
local openssl = require "spec.support.openssl"
local tls = require "spec.support.tls"

local VERSIONS = { ["TLSv1.2"] = "-tls1_2", ["TLSv1.3"] = "-tls1_3" }

-- Sends a line to an s_server that reverses it. Awaits.
local function talk(stream, word)
  stream:write(word, "\n")
  assert.equal(word:reverse() .. "\n", stream:readline())
end

-- Connects, talks to an s_server -rev, and leaves. Awaits.
-- @return what get_extra_info("tls") gave
local function visit(port, context, options)
  local stream <close> = tls.connect(port, context, options)
  talk(stream, "hello")
  return stream:get_extra_info("tls")
end

describe("A TLS client of ours with s_server", function()
  before_each(openssl.need)

  for version, flag in pairs(VERSIONS) do
    it("speaks " .. version, function()
      local server <close>, port = openssl.server("-rev " .. flag)
      local info = visit(port)
      assert.equal(info.cipher, server:expect("Ciphersuite: (%S+)"))
      assert.equal(version, info.version)
      assert.is_true(info.verified)
      assert.is_false(info.resumed)
      assert.is_nil(info.alpn)
      assert.equal("localhost", info.server_hostname)
    end)
  end

  it("speaks no other version than it is told to", function()
    local server <close>, port = openssl.server("-rev")
    assert.equal("TLSv1.3", visit(port, tls.client { min_version = "TLSv1.3" }).version)
    assert.equal("TLSv1.2", visit(port, tls.client { max_version = "TLSv1.2" }).version)
    assert.truthy(server)
  end)

  it("gets a page over HTTPS, and the end of file after it", function()
    local server <close>, port = openssl.server("-www")
    local stream <close> = tls.connect(port)
    stream:write("GET / HTTP/1.0\r\n\r\n")
    local page = stream:read()
    assert.matches("^HTTP/1.0 200 ok\r\n", page)
    assert.matches("New, TLSv1.3, Cipher is " .. stream:get_extra_info("cipher"), page, 1, true)
    assert.truthy(server)
  end)

  it("tells its protocols and learns which was chosen", function()
    local server <close>, port = openssl.server("-rev -alpn h2,http/1.1")
    local function chosen(list)
      return visit(port, tls.client { alpn = list }).alpn
    end
    assert.equal("h2", chosen { "http/1.1", "h2" })
    assert.equal("http/1.1", chosen { "imap", "http/1.1" })
    assert.is_nil(visit(port).alpn)
    assert.truthy(server)
  end)

  it("asks by name for a certificate and checks it under that name", function()
    local server <close>, port = openssl.server(("-rev -servername b.example -cert2 %s -key2 %s")
      :format(certs.b.cert, certs.b.key), "a")
    local function subject(name)
      local info = visit(port, nil, { server_hostname = name })
      return info.peercert.subject:match("CN=([%w.]+)")
    end
    assert.equal("a.example", subject("a.example"))
    assert.equal("b.example", subject("b.example"))
    assert.equal("b.example", subject("b.example."))
    assert.truthy(server)
  end)

  it("sends no name for an address", function()
    local server <close>, port = openssl.server(("-rev -servername 127.0.0.1 -cert2 %s -key2 %s")
      :format(certs.other_ip.cert, certs.other_ip.key))
    local info = visit(port, nil, { server_hostname = "127.0.0.1" })
    assert.matches("CN=localhost", info.peercert.subject, 1, true)
    assert.is_true(info.verified)
    assert.truthy(server)
  end)

  it("needs the intermediate certificate, which the server has to send", function()
    local chain <close>, port = openssl.server("-rev -cert_chain " .. certs.chained.chain,
      "chained")
    assert.is_true(visit(port).verified)
    local alone <close>, other_port = openssl.server("-rev", "chained")
    local err = net.raises("CertificateError", visit, other_port)
    assert.matches("unknown authority", err.message, 1, true)
    assert.truthy(chain and alone)
  end)

  it("sends a record of 16 KiB and some small ones as they are written", function()
    local server <close>, port = openssl.server("-rev")
    local stream <close> = tls.connect(port)
    local text = net.text(15000):gsub("%s", "_")
    stream:write(text:sub(1, 14000), text:sub(14001), "\n")
    assert.is_true(stream:readline() == text:reverse() .. "\n")
    for i = 1, 20 do talk(stream, "line " .. i) end
    assert.truthy(server)
  end)
end)

describe("A client certificate of ours", function()
  before_each(openssl.need)

  for version, flag in pairs(VERSIONS) do
    local ASKS = "-rev -Verify 1 -verify_return_error -CAfile %s " .. flag

    it("is sent to an s_server that asks for it, with " .. version, function()
      local server <close>, port = openssl.server(ASKS:format(certs.client_ca))
      visit(port, tls.client_with())
      server:expect("Peer certificate: [^\n]*CN = client\n")
    end)

    it("that is missing is named in the error, with " .. version, function()
      local server <close>, port = openssl.server(ASKS:format(certs.client_ca))
      local err = net.raises("TLSError", visit, port)
      assert.matches(version == "TLSv1.3" and "alert 'certificate required'"
        or "alert 'handshake failure'", err.message, 1, true)
      assert.matches("the peer refused", err.message, 1, true)
      server:expect("peer did not return a certificate")
      visit(port, tls.client_with())
    end)

    it("that the server does not know is named in the error, with " .. version, function()
      local server <close>, port = openssl.server(ASKS:format(certs.client_ca))
      local err = net.raises("TLSError", visit, port, tls.client_with("client_unknown"))
      assert.matches("alert 'unknown ca'", err.message, 1, true)
      visit(port, tls.client_with())
      assert.truthy(server)
    end)
  end
end)

describe("A session of our client", function()
  before_each(openssl.need)

  -- What s_server's page says of the handshake, and what we know of it. Awaits.
  local function page(port, context)
    local stream <close> = tls.connect(port, context)
    stream:write("GET / HTTP/1.0\r\n\r\n")
    local how = stream:read():match("\n(%u%l+), TLSv")
    return how, stream:get_extra_info("tls").resumed
  end

  for version, flag in pairs(VERSIONS) do
    it("is taken up again by s_server with " .. version, function()
      local server <close>, port = openssl.server("-www " .. flag)
      local context = tls.client()
      assert.same({ "New", false }, { page(port, context) })
      for _ = 1, 5 do assert.same({ "Reused", true }, { page(port, context) }) end
      assert.same({ "New", false }, { page(port, tls.client()) })
      assert.truthy(server)
    end)

    it("is not kept with session_cache = false and " .. version, function()
      local server <close>, port = openssl.server("-www " .. flag)
      local context = tls.client { session_cache = false }
      for _ = 1, 3 do assert.same({ "New", false }, { page(port, context) }) end
      assert.truthy(server)
    end)
  end

  it("that the server has forgotten becomes a new one", function()
    local context = tls.client()
    local port
    do
      local server <close>, free = openssl.server("-www")
      page(free, context)
      port = free
      assert.truthy(server)
    end
    local again <close> = openssl.server("-www", nil, port)
    assert.same({ "New", false }, { page(port, context) })
    assert.same({ "Reused", true }, { page(port, context) })
    assert.truthy(again)
  end)
end)

describe("A connection to s_server", function()
  before_each(openssl.need)

  it("goes on after new keys for one side and for both", function()
    local server <close>, port = openssl.server("-tls1_3 -msg")
    local stream <close> = tls.connect(port)
    for _, command in ipairs { "k", "K", "K" } do
      server:write(command, "\n")
      server:expect(">>> TLS 1.3, Handshake [^\n]*KeyUpdate\n")
      server:write("to the client\n")
      assert.equal("to the client\n", stream:readline())
      stream:write("to the server\n")
      if command == "K" then server:expect("<<< TLS 1.3, Handshake [^\n]*KeyUpdate\n") end
      server:expect("to the server\n")
    end
  end)

  it("is not renegotiated, which s_server takes amiss", function()
    local server <close>, port = openssl.server("-tls1_2 -msg")
    local stream <close> = tls.connect(port)
    stream:write("hello\n")
    server:expect("\nhello\n")
    server:write("r\n")
    server:expect(">>> TLS 1.2, Handshake [^\n]*HelloRequest\n")
    local err = net.raises("TLSError", stream.read, stream)
    assert.matches("alert 'handshake failure'", err.message, 1, true)
    server:expect("no renegotiation")
  end)

  it("is truncated when s_server is killed", function()
    local server <close>, port = openssl.server("")
    local stream <close> = tls.connect(port)
    server:expect("CIPHER is")
    server:write("half a li")
    assert.equal("half", stream:readexactly(4))
    os.execute("kill -KILL " .. server.pid)
    local err = net.raises("TLSError", stream.readline, stream)
    assert.equal("EOF", err.code)
    assert.equal(" a li", err.partial)
    assert.equal("EOF", net.raises("TLSError", stream.read, stream, 1).code)
  end)

  it("is told of our close, and of an abort as an error", function()
    local server <close>, port = openssl.server("")
    local stream = tls.connect(port)
    stream:write("first\n")
    server:expect("first\n")
    stream:close()
    stream:wait_closed()
    server:expect("DONE\n")
    stream = tls.connect(port)
    stream:write("second\n")
    server:expect("second\n")
    stream:abort()
    server:expect("ERROR\n")
  end)

  it("is half-closed by us, and then by s_server", function()
    local server <close>, port = openssl.server("-tls1_3")
    local stream <close> = tls.connect(port)
    assert.is_true(stream:can_write_eof())
    stream:write("first\n")
    server:expect("first\n")
    stream:write_eof()
    server:expect("DONE\n")
    assert.equal("", stream:read())
  end)
end)
