-- SPDX-License-Identifier: MIT
-- Handshakes between a server of ours and clients of every kind: silent ones, ones that leave,
-- ones that speak something else; time limits; what the server reports, and that it goes on; what
-- becomes of handshakes when a task is cancelled or the server ends.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local testing = moonloop.testing
local wait_all_blocked = testing.wait_all_blocked

local HOST = tls.HOST

-- A plain connection to a server. Awaits.
local function plain(server)
  return moonloop.connect(HOST, server:port())
end

-- A server that says nothing, and whatever it has accepted.
local function silent_server()
  return moonloop.start_server(function() moonloop.sleep_forever() end, HOST, 0)
end

-- Reads to the end of whatever kind. Awaits.
local function read_to_end(stream)
  while pcall(stream.peek, stream, 1) and stream:read(65536) do end
end

-- Talks with a server as a good client does, which shows that it goes on. Awaits.
local function still_serves(server)
  local stream <close> = tls.connect(server)
  tls.talk(stream)
end

local function check_report(report, kind, text)
  assert.equal("TLS handshake with a client failed", report.message, tostring(report.error))
  assert(moonloop.is_error(report.error, kind), tostring(report.error))
  assert.matches("tls handshake with 127%.0%.0%.1:%d+: ", tostring(report.error))
  assert.matches(text, tostring(report.error), 1, true)
end

describe("A client's handshake", function()
  it("with a server that says nothing ends with TimeoutError after its time", function()
    local server <close> = silent_server()
    local err = net.raises("TimeoutError", tls.connect, server, nil, {
      tls_handshake_timeout = 0.02,
    })
    assert.matches(("tls handshake with 127.0.0.1:%d: not done within 0.02 s"):format(
      server:port()), err.message, 1, true)
  end)

  it("gets 60 s unless said otherwise", function()
    local server <close> = silent_server()
    local _ <close> = testing.virtual_clock { threshold = 0.005 }
    local before = moonloop.time()
    local err = net.raises("TimeoutError", tls.connect, server)
    assert.matches("not done within 60 s", err.message, 1, true)
    assert.is_true(moonloop.time() - before >= 60)
  end)

  it("counts for connect's timeout", function()
    local server <close> = silent_server()
    net.raises("TimeoutError", tls.connect, server, nil, { timeout = 0.02 })
  end)

  it("is ended by a timeout around it, and by cancellation, with the connection", function()
    local ended = moonloop.Queue()
    local server <close> = moonloop.start_server(function(stream)
      read_to_end(stream)
      ended:put("ended")
    end, HOST, 0)
    local task = tasks.start(tls.connect, server)
    assert.is_false(task:done())
    assert.matches("handshake", task:awaiting(), 1, true)
    assert.is_true(tasks.cancel(task))
    assert.equal("ended", ended:get())
    net.raises("TimeoutError", function()
      local _ <close> = moonloop.timeout(0.02)
      tls.connect(server)
    end)
    assert.equal("ended", ended:get())
  end)

  it("fails with code EOF when the server closes", function()
    local server <close> = moonloop.start_server(function(stream) stream:peek(1) end, HOST, 0)
    local err = net.raises("TLSError", tls.connect, server)
    assert.equal("EOF", err.code)
    assert.matches("the peer closed the connection", err.message, 1, true)
  end)

  it("fails with ConnectionResetError when the server resets", function()
    local server <close> = moonloop.start_server(function(stream)
      stream:peek(1)
      stream:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
      stream:abort()
    end, HOST, 0)
    net.raises("ConnectionResetError", tls.connect, server)
  end)

  it("with a server of plain text fails, whatever that says", function()
    for greeting, words in pairs {
      ["220 ready to talk\r\n"] = "the peer does not speak TLS",
      ["HTTP/1.1 400 Bad Request\r\n\r\n"] = "the peer speaks plain HTTP",
      ["x"] = "",
    } do
      local server <close> = moonloop.start_server(function(stream)
        stream:write(greeting)
        stream:peek(1)
      end, HOST, 0)
      local err = net.raises("TLSError", tls.connect, server)
      assert.matches(words, err.message, 1, true)
    end
  end)

  it("with a server that sends everything back fails", function()
    local server <close> = moonloop.start_server(function(stream)
      for chunk in stream:chunks() do stream:write(chunk) end
    end, HOST, 0)
    net.raises("TLSError", tls.connect, server)
  end)
end)

describe("A server's handshake", function()
  it("with a silent client ends after its time, and is reported", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo(nil, { tls_handshake_timeout = 12.5 })
    local client <close> = plain(server)
    do
      local _ <close> = testing.virtual_clock { threshold = 0.005 }
      read_to_end(client)
    end
    check_report(reports:wait(), "TimeoutError", "not done within 12.5 s")
    still_serves(server)
  end)

  it("gets 60 s unless said otherwise", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local client <close> = plain(server)
    local _ <close> = testing.virtual_clock { threshold = 0.005 }
    local before = moonloop.time()
    read_to_end(client)
    assert.is_true(moonloop.time() - before >= 59)
    check_report(reports:wait(), "TimeoutError", "not done within 60 s")
  end)

  it("is no business of 50 silent clients that came before", function()
    local server <close> = tls.echo()
    local silent = {}
    for i = 1, 50 do silent[i] = plain(server) end
    wait_all_blocked()
    still_serves(server)
    for i = 1, 50 do -- none of them has been ended for it
      assert.is_nil(tasks.kind(silent[i].write, silent[i], "") or nil)
      assert.is_false(silent[i]:at_eof())
      silent[i]:abort()
    end
  end)

  it("is done in parts, however slowly a client sends", function()
    local server <close> = tls.echo()
    local wire <close> = link.wire()
    local conn <close> = plain(server)
    local starting = tasks.start(wire.client.start_tls, wire.client, tls.client(),
      { server_hostname = "localhost" })
    local hello = link.record(wire.near)
    for i = 1, #hello, 50 do
      conn:write(hello:sub(i, i + 49))
      wait_all_blocked()
      still_serves(server)
    end
    local relay = moonloop.create_task(moonloop.relay, wire.near, conn)
    starting:await()
    tls.talk(wire.client)
    wire.client:close()
    assert.is_true(tasks.cancel(relay) or relay:done())
  end)

  it("with a client that leaves without a byte is not reported", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    plain(server):close()
    plain(server):abort()
    local resetting = plain(server)
    resetting:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
    resetting:abort()
    still_serves(server)
    wait_all_blocked()
    assert.equal(0, #reports)
  end)

  it("with a client that leaves in the middle is reported, code EOF", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local client = plain(server)
    client:write("\22\3\1")
    wait_all_blocked()
    client:close()
    check_report(reports:wait(), "TLSError", "the peer closed the connection")
    assert.equal("EOF", reports[1].error.code)
    still_serves(server)
    assert.equal(1, #reports)
  end)

  it("with a client that speaks something else is reported in plain words", function()
    for text, expected in pairs {
      ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] = { "HTTP_REQUEST", "plain HTTP" },
      ["POST / HTTP/1.1\r\n\r\n"] = { "HTTP_REQUEST", "plain HTTP" },
      ["SSH-2.0-OpenSSH_9.2\r\n"] = { "WRONG_VERSION_NUMBER", "not" },
      [("\0"):rep(100)] = { "WRONG_VERSION_NUMBER", "does not speak TLS" },
      [("\255"):rep(100)] = { "WRONG_VERSION_NUMBER", "does not speak TLS" },
    } do
      local reports <close> = tls.reports()
      local server <close> = tls.echo()
      local client <close> = plain(server)
      client:write(text)
      read_to_end(client)
      check_report(reports:wait(), "TLSError", expected[2])
      assert.equal(expected[1], reports[1].error.code)
      still_serves(server)
    end
  end)

  it("with a client that sends garbage behind a good header is reported, too", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    for _, text in ipairs {
      "\22\3\1\0\5\1\0\0\1\0", "\22\3\1\255\255" .. ("x"):rep(100), "\23\3\3\0\5hello",
      "\21\3\3\0\2\2\40",
    } do
      local client <close> = plain(server)
      local before = #reports
      client:write(text)
      client:write_eof()
      read_to_end(client)
      check_report(reports:wait(before + 1), "TLSError", "")
    end
    still_serves(server)
  end)

  it("never calls the handler unless it is done", function()
    local reports <close> = tls.reports()
    local called = 0
    local server <close> = moonloop.start_server(function() called = called + 1 end, HOST, 0,
      { tls = tls.server() })
    plain(server):close()
    local client <close> = plain(server)
    client:write("no handshake")
    read_to_end(client)
    reports:wait()
    assert.equal(0, called)
    local good <close> = tls.connect(server)
    assert.equal("", good:read())
    assert.equal(1, called)
  end)
end)

describe("The end of a server during handshakes", function()
  -- A server and three silent clients. Awaits.
  local function waiting(opts)
    local server, clients = tls.echo(nil, opts), {}
    for i = 1, 3 do clients[i] = plain(server) end
    wait_all_blocked()
    return server, sockets.closing(table.unpack(clients)), clients
  end

  local function all_ended(clients)
    for _, client in ipairs(clients) do read_to_end(client) end
  end

  it("by leaving its block ends them", function()
    local kept, closing
    do
      local server <close>, both, clients = waiting()
      kept, closing = clients, both
      assert.is_true(server:is_serving())
    end
    local _ <close> = closing
    all_ended(kept)
  end)

  it("by shutdown ends them within its grace", function()
    local server <close>, closing, clients = waiting()
    local _ <close> = closing
    server:shutdown { grace = 0.01 }
    all_ended(clients)
    server:wait_closed()
  end)

  it("by abort_clients ends them, and the server goes on", function()
    local server <close>, closing, clients = waiting()
    local _ <close> = closing
    server:abort_clients()
    all_ended(clients)
    still_serves(server)
  end)

  it("by close_clients ends them, too", function()
    local server <close>, closing, clients = waiting()
    local _ <close> = closing
    server:close_clients()
    all_ended(clients)
    server:close()
    server:wait_closed()
  end)

  it("by close is not over before they are", function()
    local server <close>, closing = waiting { tls_handshake_timeout = 0.05 }
    local _ <close> = closing
    local reports <close> = tls.reports()
    server:close()
    local waiter = tasks.start(server.wait_closed, server)
    assert.is_false(waiter:done())
    waiter:await()
    assert.equal(3, #reports)
  end)

  it("says nothing to the exception handler where the server did it", function()
    local reports <close> = tls.reports()
    do
      local server <close>, closing = waiting()
      local _ <close> = closing
      server:abort_clients()
    end
    wait_all_blocked()
    assert.equal(0, #reports)
  end)
end)

describe("max_connections", function()
  it("counts connections over TLS", function()
    local server <close> = tls.echo(nil, { max_connections = 2 })
    local first, second <close> = tls.connect(server), tls.connect(server)
    tls.talk(first)
    tls.talk(second)
    local third = tasks.start(tls.connect, server)
    assert.is_false(third:done())
    first:close()
    local stream <close> = third:await()
    tls.talk(stream)
  end)
end)

describe("Handshakes beyond 1,000 at once", function()
  it("end the oldest, which is reported, and the newest is served #load", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local clients = {}
    for i = 1, 1001 do clients[i] = plain(server) end
    wait_all_blocked()
    read_to_end(clients[1])
    check_report(reports:wait(), "Error", "")
    assert.equal(1, #reports)
    still_serves(server)
    read_to_end(clients[2])
    assert.equal(2, #reports)
    for i = 1, 1001 do clients[i]:abort() end
  end)
end)
