-- SPDX-License-Identifier: MIT
-- Certificates of clients: a server that wants one, would like one or does not ask, and those it
-- refuses with a CertificateError of its own, which the client hears of as an alert.
local certs = require "spec.support.certificates"
local tls = require "spec.support.tls"

-- For each certificate of a client that must not do: X509_V_ERR_*, words of the server's error,
-- and the alert that the client gets.
local FAILURES = {
  client_unknown = { code = 20, words = { "unknown authority", "Other authority" },
    alert = "unknown ca" },
  client_self_signed = { code = 18, words = { "self-signed" }, alert = "unknown ca" },
  client_expired = { code = 10, words = { "expired", "2021" }, alert = "certificate expired" },
  client_wrong_purpose = { code = 26, words = { "wrong purpose" },
    alert = "unsupported certificate" },
  -- By the authority of the servers, which this client knows and so sends along, not by that of
  -- the clients.
  wrong_purpose = { code = 19, words = { "unknown authority", "Moonloop authority" },
    alert = "unknown ca" },
}

local function server(verify_client, options)
  local all = { client_ca = certs.client_ca, verify_client = verify_client }
  for name, value in pairs(options or {}) do all[name] = value end
  return tls.server("server", all)
end

for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
  local limits = { min_version = version, max_version = version }

  -- The error that the server reports of a client with that certificate; false: without any.
  local function refuses(leaf, verify_client, alert)
    local err, reported = tls.fails("TLSError", {
      server = server(verify_client), use = tls.listen,
      client = leaf and tls.client_with(leaf, limits) or tls.client(limits),
      after = tls.client_with("client", limits),
    })
    assert.equal("TLSError", err.kind)
    assert.matches("the peer refused: ", err.message, 1, true)
    assert.matches("alert '" .. alert .. "'", err.message:lower(), 1, true)
    assert.matches(tls.HANDSHAKE, reported.message)
    return reported
  end

  -- What both sides know when a client with that certificate has come.
  local function serves(leaf, verify_client)
    local pair <close> = tls.pair {
      server = server(verify_client),
      client = leaf and tls.client_with(leaf, limits) or tls.client(limits),
    }
    pair.client:write("hello\n")
    assert.equal("hello\n", pair.peer:readline())
    assert.equal(version, pair.peer:get_extra_info("tls").version)
    return pair.peer:get_extra_info("tls"), pair.client:get_extra_info("tls")
  end

  describe("A server of " .. version .. " that verifies clients", function()
    it("serves one with a certificate, and knows it", function()
      local info, of_client = serves("client", true)
      assert.is_true(info.verified)
      assert.equal(certs.text(certs.client.cert), info.peercert.pem)
      assert.equal("CN=client,O=Moonloop", info.peercert.subject)
      assert.equal("CN=Client authority,O=Moonloop", info.peercert.issuer)
      assert.equal(certs.text(certs.server.cert), of_client.peercert.pem)
    end)

    it("refuses one without", function()
      local reported = refuses(false, true,
        version == "TLSv1.3" and "certificate required" or "handshake failure")
      assert.equal("TLSError", reported.kind)
      assert.matches("the client sent no certificate", reported.message, 1, true)
    end)

    for leaf, failure in pairs(FAILURES) do
      it("refuses one with '" .. leaf .. "'", function()
        local reported = refuses(leaf, true, failure.alert)
        assert.equal("CertificateError", reported.kind)
        assert.equal("CERTIFICATE_VERIFY_FAILED", reported.code)
        assert.equal(failure.code, reported.verify_code)
        assert.equal("string", type(reported.verify_message))
        for _, word in ipairs(failure.words) do
          assert.matches(word, reported.message, 1, true)
        end
        assert.equal(certs.text(certs[leaf].cert), reported.peercert.pem)
      end)
    end
  end)

  describe("A server of " .. version .. " with verify_client=\"optional\"", function()
    it("serves a client without a certificate, and says so", function()
      local info, of_client = serves(false, "optional")
      assert.is_false(info.verified)
      assert.is_nil(info.peercert)
      assert.is_true(of_client.verified)
    end)

    it("serves and knows a client with one", function()
      local info = serves("client", "optional")
      assert.is_true(info.verified)
      assert.equal(certs.text(certs.client.cert), info.peercert.pem)
    end)

    it("refuses a client with a bad one", function()
      assert.equal(20, refuses("client_unknown", "optional", "unknown ca").verify_code)
      assert.equal(10, refuses("client_expired", "optional", "certificate expired").verify_code)
    end)
  end)

  describe("A server of " .. version .. " that does not verify clients", function()
    it("asks for no certificate, and gets none", function()
      for _, leaf in ipairs { "client", "client_expired" } do
        local info = serves(leaf, false)
        assert.is_nil(info.peercert)
        assert.is_false(info.verified)
      end
      assert.is_nil((serves("client")).peercert)
    end)
  end)
end

describe("A client's certificate", function()
  it("is sent by a client that verifies nothing, too", function()
    local pair <close> = tls.pair {
      server = server(true), client = tls.client_with("client", { verify = false }),
    }
    assert.is_true(pair.peer:get_extra_info("tls").verified)
    assert.is_false(pair.client:get_extra_info("tls").verified)
  end)

  it("may be any of several authorities'", function()
    local both = certs.text(certs.client_ca) .. certs.text(certs.other_ca)
    for _, leaf in ipairs { "client", "client_unknown" } do
      local pair <close> = tls.pair {
        server = server(true, { client_ca = both }), client = tls.client_with(leaf),
      }
      assert.equal(certs.text(certs[leaf].cert), pair.peer:get_extra_info("peercert").pem)
    end
  end)

  it("opens with its password", function()
    local own = certs.client_encrypted
    local pair <close> = tls.pair {
      server = server(true), client = tls.client_with("client_encrypted",
        { key_password = own.password }),
    }
    assert.equal(certs.text(own.cert), pair.peer:get_extra_info("peercert").pem)
  end)
end)
