#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The control of the sendfile workload: one process of nginx that serves the
# folder of the file it is given. Prints its port; serves until it is killed.
set -eu

folder=$(dirname "$1")/nginx
port=$((20000 + $$ % 12000)) # below those that the system hands out
mkdir -p "$folder"
user=
[ "$(id -u)" -ne 0 ] || user='user root;'
cat >"$folder/conf" <<END
$user
daemon off;
master_process off;
pid $folder/pid;
error_log $folder/error.log;
events { worker_connections 64; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  server { listen 127.0.0.1:$port; root $(dirname "$1"); }
}
END
echo "$port"
exec nginx -p "$folder" -c "$folder/conf" -e "$folder/error.log"
