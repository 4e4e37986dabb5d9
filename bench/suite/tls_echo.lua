-- SPDX-License-Identifier: MIT
--
-- The tls_echo workload: Streams over TLS 1.3, one task for each connection,
-- against a C server on libev and OpenSSL. All servers have the same key and
-- certificate, which is made where it is missing.

local echo = require "lib.echo"
local proc = require "lib.proc"

local M = { name = "tls_echo" }

local CELLS = {
  { what = "50 x 1 KiB", flags = "-c 50 -s 1024", bar = 88 },
}

-- A P-256 key and a certificate that it signed itself, in one file.
local MAKE_CERTIFICATE = [[pem='%s'; test -s "$pem" || {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$pem.key" -out "$pem.crt" 2>/dev/null && cat "$pem.key" "$pem.crt" >"$pem"; }]]

--- Measures the cell and returns its rows; none where TLS was not built.
function M.run(bench)
  if not proc.exists(bench.build .. "/bench/tls_load") then
    bench:say("tls_echo: left out: built without TLS\n")
    return {}
  end
  assert(proc.capture(MAKE_CERTIFICATE:format(bench.build .. "/bench/tls.pem")))
  -- Most of the user time is OpenSSL's, so it has no bar: its ratio tells.
  return echo.run(bench, M.name, CELLS, { load = "tls_load" })
end

return M
