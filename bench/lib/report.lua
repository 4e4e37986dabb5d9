-- SPDX-License-Identifier: MIT
--
-- From rows of samples to a table with verdicts, on the terminal and in
-- bench/RESULTS.md. A row has `workload`, `what`, `unit`, `digits`, `samples`
-- (a list of numbers for each contender's name), and where they apply
-- `lower` (less is better), `pooled` (one figure by name in place of the
-- median), `bar` (`{ratio = percent}` or `{most = figure}`) and `deciders`
-- (rows that must meet their bars too).

local proc = require "lib.proc"
local stats = require "lib.stats"

local M = {}

local ENOUGH = 7 -- repetitions for a ratio's verdict to count
local SLACK = 5 -- points by which a ratio may miss its bar
local HEAD = { "workload", "figure", "ours", "control", "ratio (spread)", "bar", "verdict" }

local function figure(row, name)
  if row.pooled and row.pooled[name] then return row.pooled[name] end
  local samples = name and row.samples[name]
  return samples and #samples > 0 and stats.median(samples) or nil
end

local function of_role(row, contenders, role)
  for _, contender in ipairs(contenders) do
    if contender.role == role and row.samples[contender.name] then return contender.name end
  end
end

local function ratios_of(row)
  local ours, control = row.samples[row.ours], row.samples[row.control]
  if not ours or not control then return {} end
  if row.pooled then
    ours, control = { row.pooled[row.ours] }, { row.pooled[row.control] }
  end
  return stats.paired_ratios(ours, control, row.lower)
end

local function meets_bar(row)
  local ours = figure(row, row.ours)
  if not row.bar or not ours then return nil end
  if row.bar.most then return ours <= row.bar.most end
  local ratios = ratios_of(row)
  if #ratios == 0 then return nil end
  return stats.median(ratios) >= row.bar.ratio - SLACK
end

-- A row without our figure says nothing; a decider that could not be measured
-- does not stand in the way.
local function verdict(row)
  local met = meets_bar(row)
  if met == nil then return "" end
  for _, decider in ipairs(row.deciders or {}) do
    if meets_bar(decider) == false then return "not met (" .. decider.what .. ")" end
  end
  local doubt = row.bar.ratio and #ratios_of(row) < ENOUGH and "?" or ""
  return (met and "met" or "not met") .. doubt
end

local function number_text(row, value)
  return value and ("%." .. row.digits .. "f"):format(value) or "-"
end

local function ratio_text(row)
  local ratios = ratios_of(row)
  if #ratios == 0 then return "-" end
  local least, most = stats.range(ratios)
  if #ratios == 1 then return ("%.0f"):format(ratios[1]) end
  return ("%.0f (%.0f..%.0f)"):format(stats.median(ratios), least, most)
end

local function bar_text(row)
  if not row.bar then return "" end
  if row.bar.ratio then return (">= %d"):format(row.bar.ratio) end
  return "<= " .. ("%.4g"):format(row.bar.most)
end

local function peers_of(rows, contenders)
  local peers = {}
  for _, contender in ipairs(contenders) do
    for _, row in ipairs(rows) do
      if contender.role == "peer" and row.samples[contender.name] then
        peers[#peers + 1] = contender.name
        break
      end
    end
  end
  return peers
end

local function line_of(row, peers)
  local line = {
    row.workload, row.what .. ", " .. row.unit, number_text(row, figure(row, row.ours)),
    number_text(row, figure(row, row.control)), ratio_text(row), bar_text(row), verdict(row),
  }
  for _, name in ipairs(peers) do
    line[#line + 1] = number_text(row, figure(row, name))
  end
  return line
end

local function widths_of(lines)
  local widths = {}
  for _, line in ipairs(lines) do
    for i, cell in ipairs(line) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  return widths
end

local function joined(line, widths)
  local cells = {}
  for i, cell in ipairs(line) do
    local blanks = (" "):rep(widths[i] - #cell)
    local right = i >= 3 and i <= 4 or i > #HEAD
    cells[i] = right and blanks .. cell or cell .. blanks
  end
  return "| " .. table.concat(cells, " | ") .. " |"
end

local function rule(widths)
  local cells = {}
  for i, width in ipairs(widths) do
    cells[i] = ("-"):rep(width)
  end
  return "| " .. table.concat(cells, " | ") .. " |"
end

--- The rows as a Markdown table with aligned columns.
function M.table_of(rows, contenders)
  local peers = peers_of(rows, contenders)
  local lines = { table.move(peers, 1, #peers, #HEAD + 1, { table.unpack(HEAD) }) }
  for _, row in ipairs(rows) do
    row.ours = of_role(row, contenders, "ours")
    row.control = of_role(row, contenders, "control")
  end
  for _, row in ipairs(rows) do
    lines[#lines + 1] = line_of(row, peers)
  end
  local widths, text = widths_of(lines), {}
  for i, line in ipairs(lines) do
    text[i] = joined(line, widths)
  end
  table.insert(text, 2, rule(widths))
  return table.concat(text, "\n")
end

local function answer(command)
  local text = proc.capture(command .. " 2>/dev/null")
  return text and text:match("^%s*([^\n]-)%s*\n") or "unknown"
end

-- What the figures were measured on, one line each.
local function machine(build)
  local model = answer("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1")
  local system = answer(". /etc/os-release && echo $PRETTY_NAME")
  return {
    ("- machine: %s, %s cores, Linux %s, %s"):format(model, answer("nproc"),
      answer("uname -r"), system),
    "- date: " .. os.date("!%Y-%m-%d %H:%M UTC"),
    ("- versions: %s; %s; %s; %s; %s"):format(answer(build .. "/moonloop --version"),
      answer("lua5.4 -v 2>&1"), answer(build .. "/bench/echo_libev --version"),
      answer("openssl version"), answer("gcc --version")),
  }
end

--- What a reader of the table has to know.
function M.notes(bench)
  return ([[
Medians of %d interleaved repetitions (memory: 3). The control is a raw C server on libev, for
tls_echo with OpenSSL, for sendfile nginx, for startup lua5.4. The ratio is paired repetition by
repetition: 100 is the control, more is better; in brackets the least and the greatest. A ratio
meets its bar within %d points, if user time and system calls (for sendfile the growth of memory)
meet theirs; with fewer than %d repetitions a question mark stands behind its verdict. Rounds that
another process disturbed and that stand all the same: %d.]]):format(
    bench.reps, SLACK, ENOUGH, bench.disturbed)
end

--- Writes bench/RESULTS.md.
function M.record(path, rows, bench)
  local file = assert(io.open(path, "w"))
  file:write("# Results\n\nWritten by `bench/run.lua --record`.\n\n")
  file:write(table.concat(machine(bench.build), "\n"), "\n\n")
  file:write(M.table_of(rows, bench.contenders), "\n\n", M.notes(bench), "\n")
  file:close()
end

return M
