-- SPDX-License-Identifier: MIT
-- How a client verifies the server: chain, dates, purpose and name, in TLS 1.2 and 1.3. Each
-- failure is a CertificateError that says why in words and numbers and shows the certificate; the
-- server reports what the client told it, and goes on. And what `verify=false` does instead.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

local VERSIONS = {
  ["TLS 1.2"] = { max_version = "TLSv1.2" },
  ["TLS 1.3"] = { min_version = "TLSv1.3" },
}

-- For each certificate that must not do for "localhost" (or `name`): X509_V_ERR_*, a pattern of
-- OpenSSL's own words, words of the message, and the alert that the server gets.
local FAILURES = {
  expired = { code = 10, openssl = "has expired", words = { "expired", "2021" },
    alert = "certificate expired" },
  early = { code = 9, openssl = "not yet valid", words = { "not yet valid", "2095" },
    alert = "bad certificate" },
  self_signed = { code = 18, openssl = "^self.signed", words = { "self-signed" },
    alert = "unknown ca" },
  unknown = { code = 20, openssl = "local issuer",
    words = { "unknown authority", "Other authority" }, alert = "unknown ca" },
  a = { code = 62, openssl = "[Hh]ost ?name mismatch",
    words = { "wrong host", "localhost", "a.example" }, alert = "bad certificate" },
  no_san = { code = 62, openssl = "[Hh]ost ?name mismatch", words = { "wrong host" },
    alert = "bad certificate" },
  other_ip = { code = 64, openssl = "IP address mismatch", name = "127.0.0.1",
    words = { "wrong IP", "127.0.0.1", "192.0.2.1" }, alert = "bad certificate" },
  ip_as_name = { code = 64, openssl = "IP address mismatch", name = "127.0.0.1",
    words = { "wrong IP" }, alert = "bad certificate" },
  wrong_purpose = { code = 26, openssl = "purpose", words = { "wrong purpose" },
    alert = "unsupported certificate" },
}

local server = tls.server

local function check_client_error(err, leaf, failure)
  assert.equal("CertificateError", err.kind)
  assert.equal("CERTIFICATE_VERIFY_FAILED", err.code)
  assert.equal(failure.code, err.verify_code)
  assert.matches(failure.openssl, err.verify_message)
  assert.matches(tls.HANDSHAKE, err.message)
  for _, word in ipairs(failure.words) do assert.matches(word, err.message, 1, true) end
  assert.equal(certs.text(certs[leaf].cert), err.peercert.pem)
end

for version, options in pairs(VERSIONS) do
  describe("A client of " .. version .. " refuses a server's certificate that is", function()
    for leaf, failure in pairs(FAILURES) do
      it("'" .. leaf .. "'", function()
        local err, reported = tls.fails("CertificateError", {
          server = server(leaf), client = tls.client(options),
          client_options = { server_hostname = failure.name or "localhost" },
        })
        check_client_error(err, leaf, failure)
        assert.equal("TLSError", reported.kind)
        assert.matches(tls.HANDSHAKE .. "the peer refused: ", reported.message)
        assert.matches("alert '" .. failure.alert .. "'", reported.message:lower(), 1, true)
      end)
    end

    it("sent without the intermediate between it and the authority", function()
      local own = certs.chained
      local err = tls.fails("CertificateError", {
        server = tls.server("chained", { cert = own.cert }), client = tls.client(options),
      })
      assert.equal(20, err.verify_code)
      assert.matches("unknown authority", err.message, 1, true)
      assert.matches("Moonloop intermediate", err.message, 1, true)
      local info = tls.succeeds { server = tls.server "chained", client = tls.client(options) }
      assert.is_true(info.verified)
    end)

    it("sent along with an authority that is not known", function()
      local text = certs.text(certs.unknown.cert) .. certs.text(certs.other_ca)
      local err = tls.fails("CertificateError", {
        server = tls.server("unknown", { cert = text }), client = tls.client(options),
      })
      assert.equal(19, err.verify_code)
      assert.matches("authority", err.message, 1, true)
      assert.equal(certs.text(certs.unknown.cert), err.peercert.pem)
    end)
  end)

  describe("A client of " .. version, function()
    it("accepts a certificate that is in order", function()
      local info = tls.succeeds { client = tls.client(options) }
      assert.is_true(info.verified)
      assert.equal("TLSv" .. version:match("[%d.]+"), info.version)
    end)

    it("may look up the authority in a hashed folder", function()
      local client = moonloop.tls.client_context { ca_path = certs.hashed,
        min_version = options.min_version, max_version = options.max_version }
      assert.is_true(tls.succeeds({ client = client }).verified)
      local err = tls.fails("CertificateError", { server = server "unknown", client = client })
      assert.equal(20, err.verify_code)
    end)
  end)
end

-- For tls.succeeds and tls.fails: a client connects to `host` and checks for `name`, or for the
-- host where there is none.
local function named(leaf, host, name)
  return {
    server = server(leaf), server_options = { host = host },
    client_options = { host = host, server_hostname = name or false },
  }
end

local function accepted(leaf, host, name)
  local info = tls.succeeds(named(leaf, host, name))
  assert.is_true(info.verified)
  return info
end

local function refused(code, leaf, host, name)
  local err = tls.fails("CertificateError", named(leaf, host, name))
  assert.equal(code, err.verify_code)
  return err
end

describe("An IP literal", function()
  it("is looked for among the certificate's addresses, of both families", function()
    assert.equal("127.0.0.1", accepted("v4_only", "127.0.0.1").server_hostname)
    assert.equal("::1", accepted("v6_only", "::1").server_hostname)
    accepted("server", "127.0.0.1")
    accepted("server", "::1")
  end)

  it("of the other family is the wrong IP", function()
    assert.matches("::1", refused(64, "v4_only", "::1").message, 1, true)
    assert.matches("127.0.0.1", refused(64, "v6_only", "127.0.0.1").message, 1, true)
  end)

  it("may be written out in full", function()
    accepted("v6_only", "127.0.0.1", "0:0:0:0:0:0:0:1")
  end)

  it("is not looked for among the names, nor a name among the addresses", function()
    refused(64, "a", "127.0.0.1")
    refused(62, "v4_only", "127.0.0.1", "localhost")
  end)
end)

describe("A name with a star in the certificate", function()
  it("is any one label", function()
    accepted("wild", "127.0.0.1", "a.wild.example")
    accepted("wild", "127.0.0.1", "B-2.Wild.EXAMPLE")
  end)

  it("is neither none nor two, nor one elsewhere", function()
    for _, name in ipairs { "wild.example", "a.b.wild.example", "a.example", "awild.example" } do
      local err = refused(62, "wild", "127.0.0.1", name)
      assert.matches("*.wild.example", err.message, 1, true)
    end
  end)
end)

describe("The option server_hostname", function()
  it("is the name to check in the place of the host", function()
    accepted("a", "127.0.0.1", "a.example")
    assert.matches("b.example", refused(62, "a", "127.0.0.1", "b.example").message, 1, true)
  end)

  it("may end in a dot, and be in capitals", function()
    accepted("a", "127.0.0.1", "a.example.")
    accepted("a", "127.0.0.1", "A.Example")
    refused(62, "a", "127.0.0.1", "b.example.")
  end)

  it("as empty string leaves out the name, and nothing else", function()
    local info = tls.succeeds { server = server "a", client_options = { server_hostname = "" } }
    assert.is_nil(info.server_hostname)
    local err = tls.fails("CertificateError",
      { server = server "unknown", client_options = { server_hostname = "" } })
    assert.equal(20, err.verify_code)
    err = tls.fails("CertificateError",
      { server = server "expired", client_options = { server_hostname = "" } })
    assert.equal(10, err.verify_code)
  end)
end)

describe("A certificate that was refused", function()
  it("is refused again by the next connection of the same context", function()
    local client = tls.client()
    for _ = 1, 2 do
      local err = tls.fails("CertificateError", { server = server "expired", client = client })
      assert.equal(10, err.verify_code)
    end
    assert.is_true(tls.succeeds({ client = client }).verified)
  end)
end)

describe("A client with verify=false", function()
  it("accepts every certificate, and says that none was verified", function()
    local client = tls.client { verify = false }
    for leaf in pairs(FAILURES) do
      local info = tls.succeeds { server = server(leaf), client = client }
      assert.is_false(info.verified)
      assert.equal(certs.text(certs[leaf].cert), info.peercert.pem)
    end
    assert.is_false(tls.succeeds({ client = client }).verified)
  end)

  it("is warned about once", function()
    local folder <close> = script.folder()
    folder:write("x.lua", ([[
      local moonloop = require "moonloop"
      local server <close> = moonloop.start_server(function(stream) stream:write("hello") end,
        "127.0.0.1", 0, { tls = moonloop.tls.server_context { cert = %q, key = %q } })
      for _ = 1, 2 do
        local context = moonloop.tls.client_context { verify = false }
        for _ = 1, 2 do
          local stream <close> = moonloop.connect("127.0.0.1", server:port(), { tls = context })
          print(stream:read(), stream:get_extra_info("tls").verified)
        end
      end]]):format(certs.server.cert, certs.server.key))
    local status, out, err = folder:moonloop { "x.lua" }
    assert.equal(0, status)
    assert.equal(("hello\tfalse\n"):rep(4), out)
    assert.equal(1, select(2, err:gsub("verify=false", "")))
  end)

  it("is not warned about where everything is verified", function()
    local folder <close> = script.folder()
    folder:write("x.lua", ([[
      local moonloop = require "moonloop"
      local server <close> = moonloop.start_server(function(stream) stream:write("hello") end,
        "127.0.0.1", 0, { tls = moonloop.tls.server_context { cert = %q, key = %q } })
      local context = moonloop.tls.client_context { ca_file = %q, verify = true }
      local stream <close> = moonloop.connect("127.0.0.1", server:port(), { tls = context })
      print(stream:read())]]):format(certs.server.cert, certs.server.key, certs.ca))
    local status, out, err = folder:moonloop { "x.lua" }
    assert.equal(0, status)
    assert.equal("hello\n", out)
    assert.equal("", err)
  end)
end)
