-- SPDX-License-Identifier: MIT
-- What: a look-up has a time limit, can be cancelled, and holds up nobody while it waits.
-- Why: a name server that does not answer is the usual way for a network to fail. Look-ups wait in
--      the loop as everything else does: no thread is stuck in one, and a program ends at once.
-- Usage: moonloop examples/dns_timeout.lua
local moonloop = require "moonloop"

-- A server that never answers.
local silent <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
local servers = { silent:getsockname() }

local ok, e = moonloop.pcall(moonloop.dns.resolve, "moon.example", "A",
  { servers = servers, timeout = 0.05 })
print(ok, e)

-- Nothing but this call is asked to hurry: connecting has a time limit for all of it.
moonloop.dns.set_servers(servers)
ok, e = moonloop.pcall(moonloop.connect, "moon.example", 80, { timeout = 0.05 })
print(ok, e.kind)

-- Two tasks that ask the same thing share one question; each may go its own way.
local group <close> = moonloop.TaskGroup()
local patient = group:create_task(moonloop.getaddrinfo, "moon.example", 80)
print("in time:", moonloop.move_on_after(0.05, moonloop.getaddrinfo, "moon.example", 80))
print("the other one still waits:", patient:awaiting())
patient:cancel()
