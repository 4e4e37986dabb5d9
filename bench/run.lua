-- SPDX-License-Identifier: MIT
--
-- The benchmark runner, for lua5.4 or moonloop:
--
--   bench/run.lua [workload...] [--quick] [--record]
--
-- measures the named workloads (all when none is named) and prints a table of
-- our figure, the control's, their ratio and the bar. `--quick` takes fewer and
-- shorter samples; `--record` writes bench/RESULTS.md. It builds nothing: the
-- programs are looked for in build/, or in the folder that MOONLOOP_BUILD names.

local root = arg[0]:match("^(.*)/bench/[^/]*$") or arg[0]:match("^bench/") and "." or ".."
package.path = root .. "/bench/?.lua;" .. package.path

local Bench = require "lib.bench"
local proc = require "lib.proc"
local report = require "lib.report"
local contenders = require "suite.contenders"

local WORKLOADS = {
  "echo", "protocol_echo", "tls_echo", "tasks", "future", "queue", "memory", "sendfile", "startup",
}
local USAGE = "usage: bench/run.lua [workload...] [--quick] [--record]\nworkloads: "
  .. table.concat(WORKLOADS, " ") .. "\n"
local REPS, QUICK_REPS = 7, 3

local function usage_error(reason)
  io.stderr:write(reason, "\n", USAGE)
  os.exit(2)
end

local function parse(arguments)
  local options = { workloads = {} }
  local known = {}
  for _, name in ipairs(WORKLOADS) do
    known[name] = true
  end
  for _, argument in ipairs(arguments) do
    local flag = argument:match("^%-%-(%a+)$")
    if flag == "quick" or flag == "record" then
      options[flag] = true
    elseif known[argument] then
      table.insert(options.workloads, argument)
    else
      usage_error("unknown argument: " .. argument)
    end
  end
  if #options.workloads == 0 then options.workloads = WORKLOADS end
  return options
end

local function new_bench(options)
  local build = os.getenv("MOONLOOP_BUILD") or "build"
  if not proc.exists(build .. "/bench/load") then
    io.stderr:write(build, "/bench/load is missing: run make first\n")
    os.exit(1)
  end
  return Bench.new {
    quick = options.quick,
    reps = options.quick and QUICK_REPS or REPS,
    build = build,
    contenders = contenders(build),
  }
end

local function measure(bench, name, rows)
  local ok, result = pcall(require("suite." .. name).run, bench)
  if not ok then
    io.stderr:write("\n", name, ": FAILED: ", tostring(result), "\n")
    return false
  end
  for _, row in ipairs(result) do
    row.workload = name
    rows[#rows + 1] = row
  end
  return true
end

local function main(arguments)
  local options = parse(arguments)
  proc.set_root(root)
  local bench, rows, all_ok = new_bench(options), {}, true
  for _, name in ipairs(options.workloads) do
    all_ok = measure(bench, name, rows) and all_ok
  end
  print(report.table_of(rows, bench.contenders))
  print("\n" .. report.notes(bench))
  if options.record and all_ok then report.record(root .. "/bench/RESULTS.md", rows, bench) end
  os.exit(all_ok)
end

main(arg)
