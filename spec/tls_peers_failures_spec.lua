-- SPDX-License-Identifier: MIT
-- Handshakes that fail between us and openssl's commands: each has its own clear error on the
-- side that fails, the other side is told, and the server, whosever it is, goes on.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local openssl = require "spec.support.openssl"
local tls = require "spec.support.tls"

local OLD = "-cipher DEFAULT@SECLEVEL=0 -tls1_1"

-- Our client, which has to fail with s_server; then another talks with it. Awaits.
-- @return the client's Error
local function client_fails(kind, port, context, options)
  local err = net.raises(kind, tls.connect, port, context, options)
  assert.matches("^tls handshake with .-127%.0%.0%.1:" .. port .. "%)?: ", err.message)
  return err
end

local function client_talks(port, context)
  local _ <close> = tls.reports() -- which takes the warning about verify=false
  local stream <close> = tls.connect(port, context or tls.client { verify = false })
  stream:write("hello\n")
  assert.equal("olleh\n", stream:readline())
end

-- Has s_client fail with a server of ours, which has to report that once and to go on. Awaits.
-- @param flags s_client's
-- @param good the flags of another s_client, which gets its echo
-- @return the Error reported, and all that s_client said
local function server_fails(context, flags, good)
  local reports <close> = tls.reports()
  local server <close> = tls.echo(context)
  local said = openssl.client_fails(server, flags)
  local report = reports:wait()
  assert.equal("TLS handshake with a client failed", report.message)
  assert.is_true(moonloop.is_error(report.error, "TLSError"), tostring(report.error))
  assert.matches("tls handshake with 127.0.0.1:%d+: ", report.error.message)
  local client <close> = openssl.client(server, good)
  client:write("hello\n")
  client:expect("hello\n")
  client:write("Q\n")
  assert.equal(0, (client:finish()))
  assert.equal(1, #reports)
  return report.error, said
end

describe("Our client refuses an s_server whose certificate", function()
  before_each(openssl.need)

  local CASES = {
    { what = "has expired", leaf = "expired", words = "expired", code = 10,
      told = "certificate expired" },
    { what = "is not yet valid", leaf = "early", words = "not yet valid", code = 9,
      told = "bad certificate" },
    { what = "is self-signed", leaf = "self_signed", words = "self-signed", code = 18,
      told = "unknown ca" },
    { what = "comes from an unknown authority", leaf = "unknown", words = "unknown authority",
      told = "unknown ca" },
    { what = "is for another host", leaf = "a", words = "wrong host", code = 62,
      told = "bad certificate" },
    { what = "is for another address", leaf = "other_ip", words = "wrong IP", code = 64,
      options = { server_hostname = "127.0.0.1" }, told = "bad certificate" },
    { what = "is for clients only", leaf = "wrong_purpose", words = "wrong purpose", code = 26,
      told = "unsupported certificate" },
  }

  for _, case in ipairs(CASES) do
    it(case.what .. ", and tells it", function()
      local server <close>, port = openssl.server("-rev", case.leaf)
      local err = client_fails("CertificateError", port, nil, case.options)
      assert.equal("CERTIFICATE_VERIFY_FAILED", err.code)
      assert.matches(case.words, err.message, 1, true)
      if case.code then assert.equal(case.code, err.verify_code) end
      assert.is_string(err.peercert.fingerprint_sha256)
      server:expect("alert " .. case.told)
      client_talks(port)
    end)
  end
end)

describe("Our client fails with an s_server that", function()
  before_each(openssl.need)

  it("speaks too old a protocol", function()
    local server <close>, port = openssl.server("-rev " .. OLD)
    local err = client_fails("TLSError", port)
    assert.matches("version", err.message, 1, true)
    server:expect("unsupported protocol")
    client_talks(port, tls.client {
      verify = false, min_version = "TLSv1", ciphers = "DEFAULT@SECLEVEL=0",
    })
  end)

  it("has no cipher in common with it", function()
    local server <close>, port = openssl.server(
      "-rev -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256")
    local err = client_fails("TLSError", port, tls.client {
      ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384", max_version = "TLSv1.2",
    })
    assert.matches("alert 'handshake failure'", err.message, 1, true)
    server:expect("no shared cipher")
    client_talks(port)
  end)

  it("has no protocol in common with it", function()
    local server <close>, port = openssl.server("-rev -alpn h2")
    local err = client_fails("TLSError", port, tls.client { alpn = { "imap" } })
    assert.matches("application protocol", err.message, 1, true)
    client_talks(port)
    assert.truthy(server)
  end)

  it("ends before it has answered", function()
    local port = net.free_port()
    local server <close> = moonloop.start_server(function(stream) stream:readexactly(100) end,
      "127.0.0.1", port)
    local err = client_fails("TLSError", port)
    assert.equal("EOF", err.code)
    assert.matches("the peer closed the connection", err.message, 1, true)
    assert.is_true(server:is_serving())
  end)
end)

describe("Our server is told by an s_client", function()
  before_each(openssl.need)

  local CASES = {
    { what = "that its certificate has expired", leaf = "expired", words = "certificate expired" },
    { what = "that its certificate is not yet valid", leaf = "early", words = "bad certificate" },
    { what = "that it does not know the authority", leaf = "unknown", words = "unknown ca" },
    { what = "that it is another host", leaf = "a", words = "bad certificate" },
    { what = "that its certificate is for clients", leaf = "wrong_purpose",
      words = "unsupported certificate" },
  }

  -- An s_client that looks at nothing, in spite of the flags that come before.
  local GOOD = "-verify_hostname %s -no_check_time -purpose any -partial_chain -CAfile %s"

  for _, case in ipairs(CASES) do
    it(case.what, function()
      local name = case.leaf == "a" and "a.example" or "localhost"
      local err = server_fails(tls.server(case.leaf), nil,
        GOOD:format(name, certs[case.leaf].cert))
      assert.matches("the peer refused", err.message, 1, true)
      assert.matches("alert '" .. case.words .. "'", err.message, 1, true)
    end)
  end
end)

describe("Our server refuses an s_client that", function()
  before_each(openssl.need)

  it("speaks too old a protocol", function()
    local err, said = server_fails(nil, OLD)
    assert.equal("UNSUPPORTED_PROTOCOL", err.code)
    assert.matches("no TLS version in common", err.message, 1, true)
    assert.matches("alert protocol version", said)
  end)

  it("has no cipher in common with it", function()
    local err, said = server_fails(nil, "-tls1_2 -cipher AES128-SHA")
    assert.equal("NO_SHARED_CIPHER", err.code)
    assert.matches("no cipher in common", err.message, 1, true)
    assert.matches("alert handshake failure", said)
  end)

  it("has no protocol in common with it", function()
    local err, said = server_fails(tls.server("server", { alpn = { "h2" } }), "-alpn imap",
      "-alpn imap,h2")
    assert.matches("no protocol in common (ALPN)", err.message, 1, true)
    assert.matches("alert no application protocol", said)
  end)

  it("sends no certificate although it must", function()
    local asking = { client_ca = certs.client_ca, verify_client = true, max_version = "TLSv1.2" }
    local err, said = server_fails(tls.server("server", asking), nil, openssl.identity("client"))
    assert.matches("the client sent no certificate", err.message, 1, true)
    assert.matches("alert handshake failure", said)
  end)

  it("sends no certificate although it must, with TLS 1.3", function()
    local asking = { client_ca = certs.client_ca, verify_client = true }
    local err, said = server_fails(tls.server("server", asking), "-ign_eof",
      openssl.identity("client"))
    assert.matches("the client sent no certificate", err.message, 1, true)
    assert.matches("alert certificate required", said)
  end)

  local CASES = {
    { what = "that has expired", leaf = "client_expired", words = "expired", code = 10,
      told = "certificate expired" },
    { what = "of an unknown authority", leaf = "client_unknown", words = "unknown authority",
      told = "unknown ca" },
    { what = "that is self-signed", leaf = "client_self_signed", words = "self-signed",
      code = 18, told = "unknown ca" },
    { what = "that is for servers only", leaf = "client_wrong_purpose", words = "wrong purpose",
      code = 26, told = "unsupported certificate" },
  }

  for _, case in ipairs(CASES) do
    it("sends a certificate " .. case.what, function()
      local asking = { client_ca = certs.client_ca, verify_client = true }
      local err, said = server_fails(tls.server("server", asking),
        "-ign_eof " .. openssl.identity(case.leaf), openssl.identity("client"))
      assert.equal("CertificateError", err.kind)
      assert.matches(case.words, err.message, 1, true)
      if case.code then assert.equal(case.code, err.verify_code) end
      assert.matches("alert " .. case.told, said)
    end)
  end
end)

describe("A plain server of ours", function()
  before_each(openssl.need)

  it("gets what an s_client sends it, and goes on", function()
    local first
    local server <close> = moonloop.start_server(function(stream)
      first = first or stream:read(5)
      stream:write("no such thing\n")
    end, "127.0.0.1", 0)
    assert.matches("wrong version number", openssl.client_fails(server))
    assert.matches("^\22\3", first)
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    assert.equal("no such thing\n", stream:readline())
  end)
end)
