-- SPDX-License-Identifier: MIT
--
-- Medians and paired ratios. The machine drifts between repetitions, so a
-- ratio is made within each repetition and the median taken afterwards.

local M = {}

local function sorted(list)
  local copy = table.move(list, 1, #list, 1, {})
  table.sort(copy)
  return copy
end

--- The median of a list of numbers.
function M.median(list)
  local s = sorted(list)
  local middle = #s // 2
  if #s % 2 == 1 then return s[middle + 1] end
  return (s[middle] + s[middle + 1]) / 2
end

--- The least and the greatest of a list.
function M.range(list)
  local s = sorted(list)
  return s[1], s[#s]
end

--- One field of each sample.
function M.pluck(samples, field)
  local list = {}
  for i, sample in ipairs(samples) do
    list[i] = sample[field]
  end
  return list
end

--- The ratios of ours to the control, repetition by repetition, in percent:
-- 100 is the control, more is better, whichever way the figure itself runs.
function M.paired_ratios(ours, control, lower_is_better)
  local ratios = {}
  for i = 1, math.min(#ours, #control) do
    local up, down = ours[i], control[i]
    if lower_is_better then up, down = down, up end
    if down > 0 then ratios[#ratios + 1] = up / down * 100 end
  end
  return ratios
end

return M
