-- SPDX-License-Identifier: MIT
-- What a connection over TLS says of itself: get_extra_info of "tls", "cipher" and "peercert", on
-- streams and transports, and the fields of a certificate, which are those that the openssl
-- command shows.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tls = require "spec.support.tls"

-- As RFC 2253 says, and in UTF-8, which that allows.
local NAMES = "RFC2253,-esc_msb"

local loop = moonloop.get_event_loop()

-- What the client knows of a server's certificate.
local function peercert(leaf)
  return tls.succeeds({
    server = tls.server(leaf), client = tls.client { verify = false },
  }).peercert
end

local function sorted_keys(list)
  local keys = {}
  for key in pairs(list) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

describe("get_extra_info(\"tls\")", function()
  it("says what is spoken and with whom", function()
    local pair <close> = tls.pair {
      server = tls.server("server", { alpn = { "h2" } }), client = tls.client { alpn = { "h2" } },
    }
    local info = pair.client:get_extra_info("tls")
    assert.same({ "alpn", "cipher", "peercert", "resumed", "server_hostname", "verified",
      "version" }, sorted_keys(info))
    assert.equal("TLSv1.3", info.version)
    assert.matches("^TLS_[%u%d_]+$", info.cipher)
    assert.equal("h2", info.alpn)
    assert.equal("localhost", info.server_hostname)
    assert.is_true(info.verified)
    assert.is_false(info.resumed)
    assert.equal("CN=localhost,O=Moonloop", info.peercert.subject)
  end)

  it("has the same on the other side, but for what only the client sees", function()
    local pair <close> = tls.pair()
    local client, peer = pair.client:get_extra_info("tls"), pair.peer:get_extra_info("tls")
    for _, field in ipairs { "version", "cipher", "resumed", "server_hostname" } do
      assert.equal(client[field], peer[field], field)
    end
    assert.is_nil(client.alpn)
    assert.is_nil(peer.alpn)
    assert.is_nil(peer.peercert)
    assert.is_false(peer.verified)
  end)

  it("gives a table of its own each time", function()
    local pair <close> = tls.pair()
    local info = pair.client:get_extra_info("tls")
    info.version, info.peercert.subject, info.peercert.san[1] = "changed", "changed", "changed"
    assert.equal("TLSv1.3", pair.client:get_extra_info("tls").version)
    local again = pair.client:get_extra_info("peercert")
    assert.equal("CN=localhost,O=Moonloop", again.subject)
    assert.equal("DNS:localhost", again.san[1])
  end)

  it("has its parts under names of their own", function()
    local pair <close> = tls.pair()
    for _, stream in ipairs { pair.client, pair.peer } do
      local info = stream:get_extra_info("tls")
      assert.equal(info.cipher, stream:get_extra_info("cipher"))
      assert.same(info.peercert, stream:get_extra_info("peercert"))
    end
    assert.equal("none", pair.peer:get_extra_info("peercert", "none"))
  end)

  it("leaves what a connection says anyhow as it is", function()
    local pair <close> = tls.pair()
    local near, far = pair.client, pair.peer
    assert.same(near:get_extra_info("sockname"), far:get_extra_info("peername"))
    assert.same(far:get_extra_info("sockname"), near:get_extra_info("peername"))
    assert.equal(near:fileno(), near:get_extra_info("socket"):fileno())
    assert.is_true(near:get_extra_info("socket"):getsockopt("TCP_NODELAY"))
  end)

  it("still answers when the other side has ended, and no more after the close", function()
    local pair <close> = tls.pair()
    pair.peer:close()
    assert.is_nil(pair.client:read(1))
    assert.equal("TLSv1.3", pair.client:get_extra_info("tls").version)
    pair.client:close()
    pair.client:wait_closed()
    for _, name in ipairs { "tls", "cipher", "peercert" } do
      assert.is_nil(pair.client:get_extra_info(name))
      assert.equal("gone", pair.client:get_extra_info(name, "gone"))
    end
  end)

  it("is nothing where no TLS is", function()
    local pair <close> = net.pair()
    for _, name in ipairs { "tls", "cipher", "peercert" } do
      assert.is_nil(pair.client:get_extra_info(name))
      assert.equal("none", pair.peer:get_extra_info(name, "none"))
    end
  end)

  it("is known to transports, from connection_made on", function()
    local seen = { client = moonloop.Future(), server = moonloop.Future() }
    local Watching = moonloop.Protocol:extend {
      connection_made = function(self, transport)
        seen[self.side]:set_result(transport, transport:get_extra_info("cipher"))
      end,
    }
    local function factory(side)
      return function()
        local protocol = Watching:new()
        protocol.side = side
        return protocol
      end
    end
    local server <close> = loop:create_server(factory "server", tls.HOST, 0,
      { tls = tls.server() })
    local transport = loop:create_connection(factory "client", tls.HOST, server:port(),
      { tls = tls.client() })
    local info = transport:get_extra_info("tls")
    assert.same({ transport, info.cipher }, { seen.client:await() })
    assert.equal("TLSv1.3", info.version)
    assert.equal(info.cipher, transport:get_extra_info("cipher"))
    assert.equal(certs.text(certs.server.cert), transport:get_extra_info("peercert").pem)
    local of_server, cipher = seen.server:await()
    assert.equal(info.cipher, cipher)
    transport:abort()
    of_server:abort()
  end)
end)

describe("A certificate's table", function()
  it("has these fields", function()
    assert.same({ "fingerprint_sha256", "issuer", "not_after", "not_before", "pem", "san",
      "serial", "subject" }, sorted_keys(peercert "server"))
  end)

  it("has the names, number and fingerprint that the openssl command shows", function()
    for _, leaf in ipairs { "server", "chained", "self_signed", "odd", "many", "no_san" } do
      local path, cert = certs[leaf].cert, peercert(leaf)
      local function shown(...)
        return certs.describe(path, ...):match("=(.*)$")
      end
      assert.equal(shown("-subject", "-nameopt", NAMES), cert.subject)
      assert.equal(shown("-issuer", "-nameopt", NAMES), cert.issuer)
      assert.equal(shown("-serial"), cert.serial)
      assert.equal(shown("-fingerprint", "-sha256"):gsub(":", ""):lower(),
        cert.fingerprint_sha256)
      assert.equal(certs.text(path), cert.pem)
    end
  end)

  it("has its dates in seconds since 1970", function()
    local expired, early, now = peercert "expired", peercert "early", peercert "server"
    assert.equal(1577836800, expired.not_before)
    assert.equal(1612325106, expired.not_after)
    assert.equal(3944678400, early.not_before)
    assert.equal(3979080306, early.not_after)
    assert.equal("integer", math.type(now.not_before))
    assert.is_true(now.not_before <= os.time() and os.time() < now.not_after)
    assert.equal(365 * 24 * 60 * 60, now.not_after - now.not_before)
  end)

  it("lists all names that it is for, in its order", function()
    assert.same({
      "DNS:localhost", "IP:127.0.0.1", "IP:::1", "DNS:many.example", "email:root@many.example",
      "URI:https://many.example/x",
    }, peercert("many").san)
    assert.same({ "DNS:*.wild.example" }, peercert("wild").san)
  end)

  it("has an empty list where it names nothing", function()
    assert.same({}, peercert("no_san").san)
  end)

  it("can be handed to a context as PEM", function()
    local own = peercert "self_signed"
    local client = moonloop.tls.client_context { ca_file = own.pem }
    assert.is_true(tls.succeeds({ server = tls.server "self_signed", client = client }).verified)
  end)
end)
