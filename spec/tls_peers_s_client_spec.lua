-- SPDX-License-Identifier: MIT
-- TLS servers of ours with openssl's s_client at the other end: both versions, ALPN, names,
-- client certificates, resumption, key updates, renegotiation and every way in which a
-- connection ends.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local openssl = require "spec.support.openssl"
local tls = require "spec.support.tls"

-- A server that sends lines back in capitals. Its `infos` has what get_extra_info("tls") gave for
-- each connection, its `ends` how reading ended: "end of file" or the Error. Awaits.
local function start(context, options)
  local infos, ends = {}, {}
  options = options or {}
  options.tls = context or tls.server()
  local server = moonloop.start_server(function(stream)
    infos[#infos + 1] = stream:get_extra_info("tls")
    local ok, err = moonloop.pcall(function()
      for line in stream:lines() do stream:write(line:upper(), "\n") end
    end)
    ends[#ends + 1] = ok and "end of file" or err
  end, "127.0.0.1", 0, options)
  return server, infos, ends
end

-- Lets the connections of a server end that ends otherwise. Awaits.
local function settle(server)
  server:close()
  server:wait_closed()
end

local function talk(client, word)
  client:write(word, "\n")
  client:expect(word:upper() .. "\n")
end

-- Has s_client shake hands, talk and leave; returns all that it said. Awaits.
local function visit(server, flags)
  local client <close> = openssl.client(server, flags)
  client:expect("Verify return code: 0 %(ok%)")
  talk(client, "hello")
  client:write("Q\n")
  local status, said = client:finish()
  assert.equal(0, status, said)
  return said
end

describe("A TLS server of ours with s_client", function()
  before_each(openssl.need)

  for version, flag in pairs { ["TLSv1.2"] = "-tls1_2", ["TLSv1.3"] = "-tls1_3" } do
    it("speaks " .. version .. ", verified and without compression", function()
      local server <close>, infos, ends = start()
      local said = visit(server, flag)
      settle(server)
      local cipher = said:match("New, " .. version:gsub("%.", "%%.") .. ", Cipher is (%S+)")
      assert.equal(cipher, infos[1].cipher)
      assert.equal(version, infos[1].version)
      assert.matches("Verification: OK", said)
      assert.matches("Compression: NONE", said)
      assert.matches("No ALPN negotiated", said)
      assert.is_nil(infos[1].alpn)
      assert.is_false(infos[1].resumed)
      assert.same({ "end of file" }, ends)
    end)
  end

  it("speaks no other version than it is told to", function()
    local old <close> = start(tls.server("server", { max_version = "TLSv1.2" }))
    assert.matches("New, TLSv1.2, Cipher is", visit(old))
    local new <close> = start(tls.server("server", { min_version = "TLSv1.3" }))
    assert.matches("New, TLSv1.3, Cipher is", visit(new))
    settle(old)
    settle(new)
  end)

  it("chooses among the protocols that both have, its own order first", function()
    local server <close>, infos = start(tls.server("server", { alpn = { "http/1.1", "h2" } }))
    assert.matches("ALPN protocol: http/1.1", visit(server, "-alpn h2,http/1.1"))
    assert.matches("ALPN protocol: h2", visit(server, "-alpn imap,h2"))
    assert.matches("No ALPN negotiated", visit(server))
    settle(server)
    assert.same({ "http/1.1", "h2" }, { infos[1].alpn, infos[2].alpn, infos[3].alpn })
    assert.equal(3, #infos)
  end)

  it("has a certificate for each name, and its own for every other and for none", function()
    local contexts = { ["a.example"] = tls.server("a"), ["b.example"] = tls.server("b") }
    local asked = {}
    local server <close> = start(tls.server("server", {
      sni = function(name)
        asked[#asked + 1] = name or "none"
        return contexts[name]
      end,
    }))
    local function subject(flags)
      return visit(server, "-verify_hostname " .. flags):match("subject=[^\n]*CN = ([^\n]*)")
    end
    assert.equal("a.example", subject("a.example -servername a.example"))
    assert.equal("b.example", subject("b.example -servername b.example"))
    assert.equal("localhost", subject("localhost -servername c.example"))
    assert.equal("localhost", subject("localhost -noservername"))
    assert.same({ "a.example", "b.example", "c.example", "none" }, asked)
    settle(server)
  end)

  it("sends the chain up to the authority", function()
    local server <close> = start(tls.server("chained"))
    assert.matches("Certificate chain.-CN = localhost.-CN = Moonloop intermediate", visit(server))
    settle(server)
  end)
end)

describe("Client certificates of s_client", function()
  before_each(openssl.need)

  for _, flag in ipairs { "-tls1_2", "-tls1_3" } do
    it("are asked for, naming the authority, and looked at with " .. flag, function()
      local server <close>, infos = start(tls.server("server", {
        client_ca = certs.client_ca, verify_client = true,
      }))
      local said = visit(server, flag .. " " .. openssl.identity("client"))
      settle(server)
      assert.matches("client certificate CA names%s+O = Moonloop, CN = Client authority", said)
      assert.is_true(infos[1].verified)
      assert.matches("CN=client", infos[1].peercert.subject, 1, true)
    end)
  end

  it("may be missing where they are optional", function()
    local server <close>, infos = start(tls.server("server", {
      client_ca = certs.client_ca, verify_client = "optional",
    }))
    visit(server, openssl.identity("client"))
    visit(server)
    settle(server)
    assert.is_true(infos[1].verified)
    assert.is_false(infos[2].verified)
    assert.is_nil(infos[2].peercert)
  end)

  it("are not asked for where nobody said so", function()
    local server <close>, infos = start()
    assert.matches("No client certificate CA names sent",
      visit(server, openssl.identity("client")))
    settle(server)
    assert.is_nil(infos[1].peercert)
  end)
end)

describe("A session that s_client keeps", function()
  before_each(openssl.need)

  for version, flag in pairs { ["TLSv1.2"] = "-tls1_2", ["TLSv1.3"] = "-tls1_3" } do
    it("is taken up again with " .. version, function()
      local server <close>, infos = start()
      local file = certs.folder .. "/session-" .. version
      assert.matches("New, " .. version, visit(server, flag .. " -sess_out " .. file), 1, true)
      assert.matches("Reused, " .. version, visit(server, flag .. " -sess_in " .. file), 1, true)
      settle(server)
      assert.same({ false, true }, { infos[1].resumed, infos[2].resumed })
    end)
  end

  it("is taken up five times by a client that reconnects", function()
    local server <close>, infos = start()
    local client <close> = openssl.client(server, "-tls1_2 -reconnect")
    for _ = 1, 5 do client:expect("Reused, TLSv1.2") end
    talk(client, "hello")
    client:write("Q\n")
    assert.equal(0, (client:finish()))
    settle(server)
    assert.is_false(infos[1].resumed)
    assert.is_true(infos[#infos].resumed)
  end)

  it("brings the client's certificate along", function()
    local server <close>, infos = start(tls.server("server", {
      client_ca = certs.client_ca, verify_client = true,
    }))
    local file = certs.folder .. "/session-client"
    visit(server, openssl.identity("client") .. " -sess_out " .. file)
    assert.matches("Reused, TLSv1.3", visit(server, openssl.identity("client") .. " -sess_in "
      .. file))
    settle(server)
    assert.is_true(infos[2].resumed)
    assert.equal(infos[1].peercert.subject, infos[2].peercert.subject)
  end)

  it("carries no early data", function()
    local server <close> = start()
    assert.matches("Max Early Data: 0", visit(server))
    settle(server)
  end)
end)

describe("A connection of s_client", function()
  before_each(openssl.need)

  it("goes on after new keys for one side and for both", function()
    local server <close>, _, ends = start()
    local client <close> = openssl.client(server, "-tls1_3")
    for _, command in ipairs { "k", "K", "K" } do
      talk(client, "before")
      client:write(command, "\n")
      client:expect("KEYUPDATE\n")
      talk(client, "after")
    end
    client:write("Q\n")
    assert.equal(0, (client:finish()))
    settle(server)
    assert.same({ "end of file" }, ends)
  end)

  it("is not renegotiated", function()
    local server <close>, _, ends = start()
    local client <close> = openssl.client(server, "-tls1_2")
    client:expect("Verify return code: 0")
    talk(client, "hello")
    client:write("R\n")
    local status, said = client:finish()
    assert.equal(1, status)
    assert.matches("no renegotiation", said)
    visit(server)
    settle(server)
    assert.equal("TLSError", ends[1].kind)
    assert.equal("end of file", ends[2])
  end)

  it("ends with an end of file when the client leaves", function()
    local server <close>, _, ends = start()
    visit(server)
    settle(server)
    assert.same({ "end of file" }, ends)
  end)

  it("is truncated when the client is killed", function()
    local server <close>, _, ends = start()
    local client <close> = openssl.client(server)
    talk(client, "hello")
    os.execute("kill -KILL " .. client.pid)
    client:finish()
    settle(server)
    assert.equal("TLSError", ends[1].kind)
    assert.equal("EOF", ends[1].code)
  end)

  it("is told of our close, and of an abort as a truncation", function()
    local server <close> = moonloop.start_server(function(stream)
      stream:write("hello\n")
      if stream:readline() == "close\n" then stream:close() else stream:abort() end
    end, "127.0.0.1", 0, { tls = tls.server() })
    local function left(word)
      local client <close> = openssl.client(server)
      client:expect("hello\n")
      client:write(word, "\n")
      local status, said = client:finish()
      return status, said:match("closed\n$") or said:match("unexpected eof") or said
    end
    assert.same({ 0, "closed\n" }, { left("close") })
    assert.same({ 1, "unexpected eof" }, { left("abort") })
  end)
end)
