-- SPDX-License-Identifier: MIT
--
-- Who is measured. Each contender has a `name`, a `role` ("ours", "control" or
-- "peer"), the `program` that must be there for it to take part, and under the
-- name of each workload that it knows the command to run. The commands speak
-- as ours do: a server prints its port on a line, everything else prints one
-- line of JSON with the fields of ours. To add a peer, add an entry; the
-- table then has a column for it.

return function(build)
  local moonloop = build .. "/moonloop"
  local echo_libev = build .. "/bench/echo_libev"
  local tls_echo_libev = build .. "/bench/tls_echo_libev"
  local pem = " " .. build .. "/bench/tls.pem"
  return {
    {
      name = "moonloop",
      role = "ours",
      program = moonloop,
      echo = moonloop .. " bench/echo.lua",
      protocol_echo = moonloop .. " bench/protocol_echo.lua",
      tls_echo = moonloop .. " bench/tls_echo.lua" .. pem,
      sendfile = moonloop .. " bench/sendfile.lua",
      tasks = moonloop .. " bench/tasks.lua",
      future = moonloop .. " bench/future.lua",
      queue = moonloop .. " bench/queue.lua",
      startup = moonloop .. " bench/empty.lua",
    },
    {
      name = "C and libev",
      role = "control",
      program = echo_libev,
      echo = echo_libev,
      protocol_echo = echo_libev,
    },
    {
      name = "C, libev and OpenSSL",
      role = "control",
      program = tls_echo_libev,
      tls_echo = tls_echo_libev .. pem,
    },
    { name = "nginx", role = "control", program = "nginx", sendfile = "sh bench/nginx.sh" },
    {
      name = "lua5.4",
      role = "control",
      program = "lua5.4",
      startup = "lua5.4 bench/empty.lua",
    },
  }
end
