-- SPDX-License-Identifier: MIT
-- What is shown on a terminal and how it looks elsewhere: colours, a bar, a line that is rewritten,
-- a table. Builds on Lua alone.
local M = {}

--- Whether standard output is a terminal on which a line can be rewritten. Lua cannot tell, so a
-- shell is asked, once, at the start.
M.is_live = os.getenv "TERM" ~= "dumb" and os.execute("test -t 1") == true

local colours = M.is_live and not os.getenv "NO_COLOR"
local locale = os.getenv "LC_ALL" or os.getenv "LC_CTYPE" or os.getenv "LANG" or ""
local drawing = M.is_live and locale:upper():find "UTF%-?8"
local FULL, EMPTY, RULE = "#", ".", "-"
if drawing then
  FULL, EMPTY, RULE = "━", "─", "─"
end

local CODES = { bold = "1", dim = "2", green = "32", cyan = "36", red = "31" }

--- `text` in a colour, where colours are shown.
function M.paint(colour, text)
  return colours and "\27[" .. CODES[colour] .. "m" .. text .. "\27[0m" or text
end

--- A bar `width` characters wide, of which `share` (0 to 1) is full.
function M.bar(share, width)
  local full = math.floor(share * width + 0.5)
  return M.paint("green", FULL:rep(full)) .. M.paint("dim", EMPTY:rep(width - full))
end

-- Without line wrap while it is written: a line that is wrapped could not be rewritten.
local REWRITE = "\r\27[K\27[?7l%s\27[?7h"

--- Shows `text` as the line that changes: over the last one on a terminal, below it elsewhere.
function M.show_line(text)
  io.write(M.is_live and REWRITE:format(text) or text .. "\n")
  io.flush()
end

--- Shows `text` as the last state of that line, which stays.
function M.keep_line(text)
  M.show_line(text)
  if M.is_live then
    io.write "\n"
  end
end

--- "1.5 MB" for 1500000.
function M.bytes(n)
  for _, unit in ipairs { "B", "kB", "MB", "GB" } do
    if n < 1000 or unit == "GB" then
      return (unit == "B" and "%d %s" or "%.1f %s"):format(n, unit)
    end
    n = n / 1000
  end
end

--- Prints rows (lists of strings) as a table: the first column to the left, others to the right.
-- The first row is the head, and the last one the total.
function M.print_table(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  local total = 3 * (#widths - 1)
  for _, width in ipairs(widths) do
    total = total + width
  end
  local rule = "  " .. M.paint("dim", RULE:rep(total))
  for i, row in ipairs(rows) do
    local cells = {}
    for column, cell in ipairs(row) do
      local space = (" "):rep(widths[column] - #cell)
      cells[column] = column == 1 and cell .. space or space .. cell
    end
    local line = table.concat(cells, "   ")
    if i == #rows then
      print(rule)
    end
    print("  " .. ((i == 1 or i == #rows) and M.paint("bold", line) or line))
    if i == 1 then
      print(rule)
    end
  end
end

return M
