-- SPDX-License-Identifier: MIT
-- What the system's files and variables say about names: /etc/hosts, /etc/resolv.conf, LOCALDOMAIN
-- and RES_OPTIONS, for look-ups in processes of their own, some of which have files of their own.
local moonloop = require "moonloop"
local dns_server = require "spec.support.dns_server"
local resolver = require "spec.support.resolver"
local script = require "spec.support.script"

-- Runs a script whose look-ups ask `server`; gives what it wrote.
local function run(server, source, opts)
  opts = opts or {}
  if not opts.resolv then opts.servers = { server.address } end
  local status, out = resolver.run(source, opts)
  assert.equal(0, status, out)
  return out
end

local FOUR = { { host = "192.0.2.1" } }

describe("LOCALDOMAIN #slow", function()
  it("tells where a name without a dot is sought first, and last it is taken as it is", function()
    local server <close> = dns_server.start()
    server:on("host.two.test", "A", FOUR):on("host", "A", { { host = "192.0.2.9" } })
    local out = run(server, [[print(look_up("host", { type = "stream", family = "inet" }))]],
      { env = { LOCALDOMAIN = "one.test two.test three.test" } })
    assert.equal("192.0.2.1\n", out)
    assert.same({ "host.one.test A", "host.two.test A" }, server:asked())
    server.queries = {}
    run(server, [[print(look_up("other", { type = "stream", family = "inet" }))]],
      { env = { LOCALDOMAIN = "one.test two.test" } })
    assert.same({ "other.one.test A", "other.two.test A", "other A" }, server:asked())
  end)

  it("counts for a name with a dot only when there is none as it is", function()
    local server <close> = dns_server.start()
    server:on("a.b", "A", FOUR):on("c.d.one.test", "A", { { host = "192.0.2.2" } })
    local out = run(server, [[
      print(look_up("a.b", { type = "stream", family = "inet" }))
      print(look_up("c.d", { type = "stream", family = "inet" }))
    ]], { env = { LOCALDOMAIN = "one.test" } })
    assert.equal("192.0.2.1\n192.0.2.2\n", out)
    assert.same({ "a.b A", "c.d A", "c.d.one.test A" }, server:asked())
  end)

  it("is left alone by a name that ends in a dot, by dns.resolve and by localhost", function()
    local server <close> = dns_server.start()
    server:on("host.one.test", "A", FOUR)
    local out = run(server, [[
      print(look_up("host.", { type = "stream", family = "inet" }))
      print(select(2, pcall(moonloop.dns.resolve, "host", "A")).code)
      print(look_up("localhost"))
    ]], { env = { LOCALDOMAIN = "one.test" } })
    assert.equal("EAI_NONAME\nNXDOMAIN\n::1 127.0.0.1\n", out)
    assert.same({ "host A", "host A" }, server:asked())
  end)

  it("goes on to the next domain after an empty answer", function()
    local server <close> = dns_server.start()
    server:on("host.one.test", "MX", {}):on("host.two.test", "A", FOUR)
    assert.equal("192.0.2.1\n", run(server,
      [[print(look_up("host", { type = "stream", family = "inet" }))]],
      { env = { LOCALDOMAIN = "one.test two.test" } }))
  end)
end)

describe("RES_OPTIONS #slow", function()
  it("with ndots tells how many dots make a name complete", function()
    local server <close> = dns_server.start()
    server:on("a.b.one.test", "A", FOUR):on("a.b", "A", { { host = "192.0.2.9" } })
    local out = run(server, [[print(look_up("a.b", { type = "stream", family = "inet" }))]],
      { env = { LOCALDOMAIN = "one.test", RES_OPTIONS = "ndots:2" } })
    assert.equal("192.0.2.1\n", out)
    assert.same({ "a.b.one.test A" }, server:asked())
  end)

  it("with timeout and attempts tells how long a silent server is waited for", function()
    local once <close> = dns_server.start()
    local twice <close> = dns_server.start()
    local silent = { silent = true }
    once:on("a.test", "A", silent):on("a.test", "AAAA", silent)
      :on("1.2.0.192.in-addr.arpa", "PTR", silent)
    twice:on("a.test", "A", silent, FOUR):on("a.test", "AAAA", silent, {})
    local outs = { moonloop.gather(function()
      return run(once, [[
        local function code_of(fn, ...) return select(2, pcall(fn, ...)).code end
        print(moonloop.gather(function() return look_up("a.test.") end, function()
          return code_of(moonloop.dns.resolve, "a.test", "A")
        end, function()
          return code_of(moonloop.getnameinfo, { host = "192.0.2.1", port = 1 })
        end))
      ]], { env = { RES_OPTIONS = "timeout:1 attempts:1" } })
    end, function()
      return run(twice, [[print(look_up("a.test."))]],
        { env = { RES_OPTIONS = "timeout:1 attempts:2" } })
    end) }
    assert.same({ "EAI_AGAIN\tETIMEOUT\tEAI_AGAIN\n", "192.0.2.1\n" }, outs)
    assert.same({ 4, 4 }, { once:count(), twice:count() })
  end)
end)

local HOSTS = [[
# a comment
127.0.0.1 localhost
192.0.2.10 Ten.test ten alias.test # another comment
2001:db8::10 ten.test
192.0.2.11	eleven.test
  192.0.2.12   eleven.test
not-an-address broken.test
10.9.8.7 shadow.test
]]

-- A spec that needs a process with its own files.
local function with_files(name, fn)
  it(name, function()
    if not resolver.can_have_files() then
      return pending("this system lets no process have mounts of its own")
    end
    fn()
  end)
end

describe("/etc/hosts #slow", function()
  with_files("gives names and aliases, of every line that has them, and asks nobody", function()
    local server <close> = dns_server.start()
    local out = run(server, [[
      local function sorted(name, opts)
        local hosts = {}
        for host in look_up(name, opts):gmatch("%S+") do hosts[#hosts + 1] = host end
        table.sort(hosts)
        print(table.concat(hosts, " "))
      end
      sorted("ten.test")
      sorted("TEN.TEST", { type = "stream", family = "inet6" })
      sorted("ten", { type = "stream", family = "inet" })
      sorted("alias.test", { type = "stream", family = "inet" })
      sorted("eleven.test")
      sorted("eleven.test.")
    ]], { hosts = HOSTS })
    assert.equal("192.0.2.10 2001:db8::10\n2001:db8::10\n192.0.2.10\n192.0.2.10\n"
      .. "192.0.2.11 192.0.2.12\n192.0.2.11 192.0.2.12\n", out)
    assert.same({}, server:asked())
  end)

  with_files("goes before what a server says, except for dns.resolve", function()
    local server <close> = dns_server.start()
    server:on("shadow.test", "A", FOUR)
    local out = run(server, [[
      print(look_up("shadow.test"))
      print(moonloop.dns.resolve("shadow.test")[1].host)
    ]], { hosts = HOSTS })
    assert.equal("10.9.8.7\n192.0.2.1\n", out)
    assert.same({ "shadow.test A" }, server:asked())
  end)

  with_files("leaves other names to the server, and those of lines that are broken", function()
    local server <close> = dns_server.start()
    server:on("broken.test", "A", FOUR):on("comment", "A", {})
    local out = run(server, [[
      print(look_up("broken.test", { type = "stream", family = "inet" }))
      print(look_up("comment.", { type = "stream", family = "inet" }))
    ]], { hosts = HOSTS })
    assert.equal("192.0.2.1\nEAI_NONAME\n", out)
    assert.same({ "broken.test A", "comment A" }, server:asked())
  end)

  with_files("tells names from those that they are a part of", function()
    local server <close> = dns_server.start()
    local out = run(server, [[
      for _, name in ipairs { "ten.test", "test", "eleven.test", "last.test", "st.test" } do
        print(look_up(name .. "."))
      end
      print((moonloop.getnameinfo { host = "192.0.2.2", port = 0 }))
    ]], {
      hosts = "192.0.2.1 myten.test ten.test.org\n"
        .. "192.0.2.2 ten.testing ten.test#, not eleven.test\n192.0.2.4\tlast.test",
    })
    assert.equal("192.0.2.2\nEAI_NONAME\nEAI_NONAME\n192.0.2.4\nEAI_NONAME\nten.testing\n", out)
    assert.equal(6, server:count()) -- both families of three names
  end)

  with_files("gives getnameinfo its names, and the first of a line as canonname", function()
    local server <close> = dns_server.start()
    local out = run(server, [[
      print((moonloop.getnameinfo { host = "192.0.2.12", port = 0 }))
      print((moonloop.getnameinfo({ host = "2001:db8::10", port = 0 }, { "NI_NAMEREQD" })))
      local list = moonloop.getaddrinfo("alias.test", 0, { flags = { "AI_CANONNAME" } })
      print(list[1].canonname:lower())
    ]], { hosts = HOSTS })
    assert.equal("eleven.test\nten.test\nten.test\n", out)
    assert.same({}, server:asked())
  end)

  with_files("is read at each look-up", function()
    local server <close> = dns_server.start()
    assert.equal("192.0.2.10\n192.0.2.77\n", run(server, [[
      local opts = { type = "stream", family = "inet" }
      print(look_up("ten.test", opts))
      local file = assert(io.open("/etc/hosts", "w"))
      file:write("192.0.2.77 ten.test\n")
      file:close()
      print(look_up("ten.test", opts))
    ]], { hosts = HOSTS }))
    assert.same({}, server:asked())
  end)

  with_files("may be empty, and localhost is known all the same", function()
    local server <close> = dns_server.start()
    assert.equal("::1 127.0.0.1\nEAI_NONAME\n", run(server, [[
      print(look_up("localhost"))
      print(look_up("ten.test."))
    ]], { hosts = "" }))
  end)
end)

-- A DNS server on a port that resolv.conf can tell; nil where we may not have it.
local function serve_on_53(host)
  local ok, server = pcall(dns_server.start, { host = host, port = 53 })
  if ok then return server end
  local denied = moonloop.is_error(server, "PermissionError")
  if denied or moonloop.is_error(server, "AddressInUseError") then return nil end
  error(server, 0)
end

describe("/etc/resolv.conf #slow", function()
  local function with_servers(name, fn)
    with_files(name, function()
      local one, other = serve_on_53("127.0.53.1"), serve_on_53("127.0.53.2")
      local _ <close> = one
      local _ <close> = other
      if not (one and other) then return pending("port 53 is not to be had") end
      fn(one, other)
    end)
  end

  with_servers("names the servers and the search domains", function(one, other)
    one:on("a.test", "A", { rcode = "SERVFAIL" })
    other:on("a.test", "A", { { host = "192.0.2.2" } })
    one:on("host.one.test", "A", { { host = "192.0.2.1" } })
    local out = run(nil, [[
      local opts = { type = "stream", family = "inet" }
      print(look_up("host", opts))
      print(look_up("a.test", opts))
    ]], { resolv = "# where to ask\nnameserver 127.0.53.1\nnameserver 127.0.53.2\n"
      .. "search one.test\n" })
    assert.equal("192.0.2.1\n192.0.2.2\n", out)
    assert.same({ "a.test A" }, other:asked())
  end)

  with_servers("is read again when it has changed, and after set_servers(nil)", function(one, other)
    one:on("a.test", "A", { { host = "192.0.2.1" } })
    other:on("a.test", "A", { { host = "192.0.2.2" } })
    local out = run(nil, [[
      local opts = { type = "stream", family = "inet" }
      print(look_up("a.test", opts))
      local file = assert(io.open("/etc/resolv.conf", "w"))
      file:write("# this one from now on\nnameserver 127.0.53.2\n")
      file:close()
      print(look_up("a.test", opts))
      print(moonloop.dns.resolve("a.test")[1].host)
      moonloop.dns.set_servers { "127.0.53.1" }
      print(look_up("a.test", opts))
      moonloop.dns.set_servers(nil)
      print(look_up("a.test", opts))
      print(moonloop.dns.resolve("a.test", "A", { servers = { "127.0.53.1" } })[1].host)
    ]], { resolv = "nameserver 127.0.53.1\n" })
    assert.equal("192.0.2.1\n192.0.2.2\n192.0.2.2\n192.0.2.1\n192.0.2.2\n192.0.2.1\n", out)
  end)

  with_files("that is empty, or not there, leaves hosts, numbers and localhost", function()
    local folder <close> = script.folder()
    local out = run(nil, [[
      print(look_up("127.0.0.1"), look_up("localhost"), look_up("ten", { family = "inet6" }))
    ]], { resolv = "", hosts = "2001:db8::10 ten\n", folder = folder })
    assert.equal("127.0.0.1\t::1 127.0.0.1\t2001:db8::10 2001:db8::10\n", out)
  end)
end)
