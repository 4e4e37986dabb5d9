-- SPDX-License-Identifier: MIT
-- Application-Layer Protocol Negotiation: the server's first protocol that the client has, none
-- where one side has no list, and a handshake that fails where the lists have nothing in common.
local moonloop = require "moonloop"
local tls = require "spec.support.tls"

local VERSIONS = { "TLSv1.2", "TLSv1.3" }

-- What both sides say is spoken.
local function spoken(server_list, client_list, version)
  local pair <close> = tls.pair {
    server = tls.server("server", { alpn = server_list }),
    client = tls.client { alpn = client_list, max_version = version },
  }
  local client = pair.client:get_extra_info("tls").alpn
  assert.equal(client, pair.peer:get_extra_info("tls").alpn)
  return client
end

for _, version in ipairs(VERSIONS) do
  describe("ALPN in " .. version, function()
    it("finds the protocol that both speak", function()
      assert.equal("h2", spoken({ "h2" }, { "h2" }, version))
      assert.equal("http/1.1", spoken({ "h2", "http/1.1" }, { "spdy", "http/1.1" }, version))
    end)

    it("goes by the server's order", function()
      assert.equal("h2", spoken({ "h2", "http/1.1" }, { "http/1.1", "h2" }, version))
      assert.equal("http/1.1", spoken({ "http/1.1", "h2" }, { "h2", "http/1.1" }, version))
    end)

    it("tells names apart by every byte", function()
      assert.equal("h2c", spoken({ "h2c", "h2" }, { "h", "h2c", "H2" }, version))
      assert.equal("a\0b", spoken({ "a\0b" }, { "a", "a\0b" }, version))
    end)

    it("takes long lists and long names", function()
      local names = {}
      for i = 1, 40 do names[i] = ("%03d"):format(i):rep(85) end
      assert.equal(names[40], spoken({ names[40] }, names, version))
    end)

    it("says nothing where one side has no list", function()
      assert.is_nil(spoken(nil, { "h2" }, version))
      assert.is_nil(spoken({ "h2" }, nil, version))
      assert.is_nil(spoken(nil, nil, version))
    end)

    it("fails the handshake on both sides where nothing is in common", function()
      local err, reported = tls.fails("TLSError", {
        server = tls.server("server", { alpn = { "h2", "http/1.1" } }),
        client = tls.client { alpn = { "spdy", "h3" }, max_version = version },
      })
      assert.matches("alert 'no application protocol'", err.message, 1, true)
      assert.matches("no protocol in common (ALPN)", reported.message, 1, true)
      assert.is_false(moonloop.is_error(err, "CertificateError"))
    end)

    it("serves the next client after such a failure by its protocol", function()
      local context = tls.server("server", { alpn = { "h2" } })
      local reports <close> = tls.reports()
      local server <close> = tls.echo(context)
      local err = tls.try(server, tls.client { alpn = { "h3" }, max_version = version })
      assert.equal("TLSError", err.kind)
      reports:wait()
      local _, info = tls.try(server, tls.client { alpn = { "h2" }, max_version = version })
      assert.equal("h2", info.alpn)
    end)
  end)
end
