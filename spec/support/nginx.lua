-- SPDX-License-Identifier: MIT
-- An nginx of one's own in a folder of script.lua, which a to-be-closed variable ends.
local command = require "spec.support.command"

local M = {}

local CONF = [[
%user%
worker_processes 1;
pid %path%/nginx.pid;
error_log %path%/error.log;
events { worker_connections 512; }
http {
  access_log off;
  client_max_body_size 0;
  client_body_temp_path %path%/body;
  proxy_temp_path %path%/proxy;
  fastcgi_temp_path %path%/fastcgi;
  uwsgi_temp_path %path%/uwsgi;
  scgi_temp_path %path%/scgi;
  %http%
}
]]

local Nginx = {}
Nginx.__index = Nginx
Nginx.__name = "Nginx"

--- Ends it and waits until it has ended.
function Nginx:__close()
  self.folder:shell("pid=$(cat nginx.pid) && kill $pid && while [ -e nginx.pid ]; do :; done")
end

--- Starts nginx.
-- @param folder a folder of script.lua, for its files
-- @param http what stands in the http block of its configuration; "%path%" there
-- stands for the folder
function M.start(folder, http)
  local _, user = command.run({ "id", "-u" })
  local words = { user = user == "0\n" and "user root;" or "", http = http }
  local conf = CONF:gsub("%%(%l+)%%", words):gsub("%%path%%", folder.path)
  folder:write("nginx.conf", conf)
  local status, _, err = command.run({ "nginx", "-p", folder.path, "-c",
    folder.path .. "/nginx.conf" })
  assert(status == 0, err)
  return setmetatable({ folder = folder }, Nginx)
end

return M
