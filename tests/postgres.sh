#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, which it finds by FETTLE_TEST_DATABASE_URL: tests/postgres.sh pytest tests/contract
# The server lies in a temporary folder, is reached through a socket in it and by nobody else, and is gone afterwards.
set -euo pipefail

initdb=$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1 || true)
if [ -z "$initdb" ]; then
  echo "There is no PostgreSQL here. Install it (Debian: apt-get install postgresql; macOS: brew install postgresql) and run this again." >&2
  exit 1
fi
tools=$(dirname "$initdb")
folder=$(mktemp -d)
as_server=()
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
  user=$(id -un postgres 2>/dev/null || echo nobody)
  chown "$user" "$folder"
  as_server=(runuser -u "$user" --)
fi

stop() {
  (cd "$folder" && "${as_server[@]}" "$tools/pg_ctl" --pgdata "$folder/data" --mode immediate --silent stop) || true
  rm -rf "$folder"
}
trap stop EXIT

(
  cd "$folder"
  "${as_server[@]}" "$tools/initdb" --pgdata "$folder/data" --username fettle --auth trust --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null
  options="-c listen_addresses= -c unix_socket_directories=$folder -c fsync=off -c max_connections=300"
  "${as_server[@]}" "$tools/pg_ctl" --pgdata "$folder/data" --log "$folder/log" --options "$options" --wait --silent start
)
export FETTLE_TEST_DATABASE_URL="postgresql://fettle@/postgres?host=$folder"
"$@"
