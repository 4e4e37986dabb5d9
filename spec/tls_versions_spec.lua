-- SPDX-License-Identifier: MIT
-- Versions and ciphers: the best that both sides allow is what they speak, and both know it;
-- where they have none in common the server says which of the two it was, and goes on.
local tls = require "spec.support.tls"

-- OpenSSL's settings leave nothing that serves below TLS 1.2 unless this is asked for.
local OLD = "ALL:@SECLEVEL=0"

-- What both sides say is spoken between contexts with these options.
local function spoken(server_options, client_options)
  local pair <close> = tls.pair {
    server = tls.server("server", server_options), client = tls.client(client_options),
  }
  tls.talk_both(pair)
  local client, peer = pair.client:get_extra_info("tls"), pair.peer:get_extra_info("tls")
  assert.equal(client.version, peer.version)
  assert.equal(client.cipher, peer.cipher)
  assert.equal(client.cipher, pair.client:get_extra_info("cipher"))
  assert.equal(client.cipher, pair.peer:get_extra_info("cipher"))
  return client.version, client.cipher
end

describe("The version of a connection", function()
  it("is the best there is, unless limits are set", function()
    assert.equal("TLSv1.3", (spoken()))
  end)

  it("is the best that both sides allow", function()
    for _, case in ipairs {
      { "TLSv1.2", { max_version = "TLSv1.2" }, {} },
      { "TLSv1.2", {}, { max_version = "TLSv1.2" } },
      { "TLSv1.3", { min_version = "TLSv1.3" }, {} },
      { "TLSv1.3", {}, { min_version = "TLSv1.3" } },
      { "TLSv1.2", { max_version = "TLSv1.2", min_version = "TLSv1" }, { min_version = "TLSv1" } },
    } do
      local wanted, server, client = table.unpack(case)
      assert.equal(wanted, (spoken(server, client)))
    end
  end)

  it("is an old one where both sides say so", function()
    for _, version in ipairs { "TLSv1", "TLSv1.1" } do
      assert.equal(version, (spoken({ min_version = "TLSv1", ciphers = OLD },
        { min_version = "TLSv1", max_version = version, ciphers = OLD })))
      assert.equal(version, (spoken(
        { min_version = "TLSv1", max_version = version, ciphers = OLD },
        { min_version = "TLSv1", ciphers = OLD })))
    end
  end)
end)

-- Has a client fail for its version; gives its error and the server's.
local function too_different(server_options, client_options)
  local err, reported = tls.fails("TLSError", {
    server = tls.server("server", server_options), client = tls.client(client_options),
    after = tls.client { verify = false, min_version = "TLSv1", ciphers = OLD },
  })
  assert.equal("TLSError", err.kind)
  assert.equal("TLSError", reported.kind)
  return err, reported
end

describe("Versions that have none in common", function()
  local CASES = {
    ["an old client"] = { { min_version = "TLSv1.3" }, { max_version = "TLSv1.2" } },
    ["an old server"] = { { max_version = "TLSv1.2" }, { min_version = "TLSv1.3" } },
    ["a very old client"] = {
      {}, { min_version = "TLSv1", max_version = "TLSv1.1", ciphers = OLD },
    },
    ["a very old server"] = {
      { min_version = "TLSv1", max_version = "TLSv1.1", ciphers = OLD }, {},
    },
  }
  for name, case in pairs(CASES) do
    it("are a clear error with " .. name, function()
      local err, reported = too_different(table.unpack(case))
      assert.equal("UNSUPPORTED_PROTOCOL", reported.code)
      assert.matches("no TLS version in common", reported.message, 1, true)
      assert.matches(tls.HANDSHAKE, reported.message)
      assert.matches(tls.HANDSHAKE, err.message)
      assert.matches("alert 'protocol version'", err.message, 1, true)
    end)
  end
end)

describe("The cipher of a connection", function()
  it("is one that both sides allow", function()
    local all = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    for _, name in ipairs { "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384" } do
      local _, cipher = spoken({ ciphers = all },
        { ciphers = name, max_version = "TLSv1.2" })
      assert.equal(name, cipher)
      _, cipher = spoken({ ciphers = name, max_version = "TLSv1.2" }, { ciphers = all })
      assert.equal(name, cipher)
    end
  end)

  it("in TLS 1.3 is one of its suites in the list", function()
    local suites = {
      "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    }
    for _, name in ipairs(suites) do
      local version, cipher = spoken({ ciphers = name }, {})
      assert.equal("TLSv1.3", version)
      assert.equal(name, cipher)
      _, cipher = spoken({}, { ciphers = name })
      assert.equal(name, cipher)
    end
  end)

  it("is chosen for each version from one list with both kinds", function()
    local list = "ECDHE-ECDSA-AES256-GCM-SHA384:TLS_CHACHA20_POLY1305_SHA256"
    for version, name in pairs {
      ["TLSv1.2"] = "ECDHE-ECDSA-AES256-GCM-SHA384",
      ["TLSv1.3"] = "TLS_CHACHA20_POLY1305_SHA256",
    } do
      local chosen, cipher = spoken({ ciphers = list }, { max_version = version })
      assert.equal(version, chosen)
      assert.equal(name, cipher)
    end
  end)

  it("stays the usual one for the version that the list says nothing of", function()
    local _, usual = spoken()
    local version, cipher = spoken({ ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" }, {})
    assert.equal("TLSv1.3", version)
    assert.equal(usual, cipher)
    assert.equal("TLSv1.2", (spoken({ ciphers = "TLS_AES_128_GCM_SHA256" },
      { max_version = "TLSv1.2" })))
  end)
end)

describe("Ciphers that have none in common", function()
  for version, case in pairs {
    ["TLSv1.2"] = { "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384" },
    ["TLSv1.3"] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384" },
  } do
    it("are a clear error in " .. version, function()
      local err, reported = tls.fails("TLSError", {
        server = tls.server("server", { ciphers = case[1] }),
        client = tls.client { ciphers = case[2], min_version = version, max_version = version },
      })
      assert.equal("NO_SHARED_CIPHER", reported.code)
      assert.matches("no cipher in common", reported.message, 1, true)
      assert.matches("alert 'handshake failure'", err.message, 1, true)
    end)
  end

  it("are so with a certificate that fits none", function()
    local _, reported = tls.fails("TLSError", {
      server = tls.server("server", { ciphers = "ECDHE-RSA-AES128-GCM-SHA256" }),
      client = tls.client { max_version = "TLSv1.2" }, after = tls.client(),
    })
    assert.equal("NO_SHARED_CIPHER", reported.code)
  end)
end)
