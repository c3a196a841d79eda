#!/usr/bin/env bash
# nginx's limit_req, which says nothing about its limit: five requests at once and then five in ten seconds, refused
# with a bare 429 on one port and, as by default, with a bare 503 on the other.
set -euo pipefail
file=$1
work=$(dirname "$file")/nginx
mkdir "$work"
read -r throttled unavailable < <(python3 - <<'P'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))
P
)
echo '[]' >"$work/orders"
cat >"$work/nginx.conf" <<C
daemon off;
master_process off;
pid $work/pid;
error_log stderr error;
events {}
http {
  access_log off;
  client_body_temp_path $work/body;
  fastcgi_temp_path $work/fastcgi;
  proxy_temp_path $work/proxy;
  scgi_temp_path $work/scgi;
  uwsgi_temp_path $work/uwsgi;
  limit_req_zone \$server_port zone=orders:1m rate=30r/m;
  limit_req zone=orders burst=4 nodelay;
  root $work;
  server { listen 127.0.0.1:$throttled; limit_req_status 429; location / { try_files /orders =404; } }
  server { listen 127.0.0.1:$unavailable; location / { try_files /orders =404; } }
}
C
printf '{"429":"http://127.0.0.1:%s","503":"http://127.0.0.1:%s"}' "$throttled" "$unavailable" >"$file.new"
(
  until (: >"/dev/tcp/127.0.0.1/$unavailable") 2>/dev/null; do sleep 0.05; done
  mv "$file.new" "$file"
) &
exec nginx -e stderr -p "$work" -c "$work/nginx.conf"
