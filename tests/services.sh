# shellcheck shell=bash
# What tests/run, tests/bench/run and deploy/local.sh have in common: finds or installs PostgreSQL, nats-server and nginx,
# and starts private instances of the first two. To be sourced, from the folder of the repository.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

command -v cargo >/dev/null || fail 'cargo is missing: install Rust from https://rustup.rs'
command -v cc >/dev/null || fail 'a C compiler is missing: install gcc or clang'

find_postgres() {
  local initdb
  initdb=$(ls -d /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb 2>/dev/null | sort -V | tail -n 1) || true
  [ -n "$initdb" ] || initdb=$(command -v initdb || true)
  [ -n "$initdb" ] && dirname "$(readlink -f "$initdb")"
}
find_nats() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nats-server; }
find_nginx() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx; }

install() { # packages of the distribution; what they bring is not started
  command -v apt-get >/dev/null || fail "missing: $*. Install them with this system's package manager"
  say "installing $*"
  local sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  if ! [ -e /etc/postgresql-common/createcluster.conf ]; then
    $sudo mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  # Where systemd runs, only a policy keeps a package from starting its service.
  $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 sh -c '
    policy=/usr/sbin/policy-rc.d
    if ! [ -e "$policy" ]; then
      trap "rm -f $policy" EXIT
      trap "exit 130" INT TERM
      printf "#!/bin/sh\nexit 101\n" >"$policy"
      chmod 755 "$policy"
    fi
    apt-get update -q && apt-get install -qy "$@"' install "$@" >&2
}

find_services() { # sets $postgres and $nats, for those who start servers of their own too
  local missing=()
  find_postgres >/dev/null || missing+=(postgresql)
  find_nats >/dev/null || missing+=(nats-server)
  [ ${#missing[@]} = 0 ] || install "${missing[@]}"
  postgres=$(find_postgres) || fail 'PostgreSQL is installed and its initdb is not found'
  nats=$(find_nats) || fail 'nats-server is installed and not found'
  export PARLOR_TEST_POSTGRES_BIN="$postgres" PARLOR_TEST_NATS_SERVER="$nats"
}

find_balancer() { # nginx, which the stories of several gateways start with a configuration of their own
  find_nginx >/dev/null || install nginx
  PARLOR_TEST_NGINX=$(find_nginx) || fail 'nginx is installed and not found'
  export PARLOR_TEST_NGINX PARLOR_TEST_REQUIRE_NGINX=1
}

free_port() { # one that nobody listens at
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

start_services() { # until this shell ends; with a folder, what they hold is still there the next time
  keep=${1:-}
  folder=${keep:-$(mktemp -d "${TMPDIR:-/tmp}/parlor-tests.XXXXXX")}
  mkdir -p "$folder"
  rm -f "$folder"/nats-server_*.ports
  as_owner=()
  if [ "$(id -u)" = 0 ]; then # PostgreSQL does not run as root
    chown nobody "$folder"; chmod 755 "$folder"
    as_owner=(setpriv --reuid=nobody --clear-groups)
  fi
  trap stop_services EXIT

  say 'starting a private PostgreSQL and NATS'
  local port nats_port ports
  port=$(free_port)
  cd "$folder"
  [ -e "$folder/pg/PG_VERSION" ] || "${as_owner[@]}" "$postgres/initdb" -D "$folder/pg" -U parlor --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  "${as_owner[@]}" "$postgres/pg_ctl" -D "$folder/pg" -s -w -l "$folder/pg.log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300" start \
    || { cat "$folder/pg.log" >&2; fail 'PostgreSQL does not start'; }
  cd - >/dev/null
  "$nats" -a 127.0.0.1 -p -1 --ports_file_dir "$folder" -l "$folder/nats.log" &
  nats_pid=$!
  for _ in $(seq 100); do
    ports=$(cat "$folder"/nats-server_*.ports 2>/dev/null) && [ -n "$ports" ] && break
    sleep 0.1
  done
  nats_port=$(printf '%s' "${ports:-}" | grep -o '127.0.0.1:[0-9]*' | head -n 1 | cut -d: -f2)
  [ -n "$nats_port" ] || { cat "$folder/nats.log" >&2; fail 'nats-server does not start'; }

  export PARLOR_TEST_POSTGRES="postgres://parlor@127.0.0.1:$port/postgres" PARLOR_TEST_REQUIRE_POSTGRES=1
  export PARLOR_TEST_NATS="nats://127.0.0.1:$nats_port" PARLOR_TEST_REQUIRE_NATS=1
}

start_s3() { # an S3 server for the tests, in memory; after start_services, and until this shell ends
  local tools=$PWD/target/tools/moto port
  if ! [ -x "$tools/bin/moto_server" ]; then
    say 'installing moto, an S3 server for tests'
    rm -rf "$tools"
    if ! { python3 -m venv "$tools" && "$tools/bin/pip" install -q --disable-pip-version-check 'moto[s3]==5.2.5' flask flask-cors; } >&2; then
      rm -rf "$tools"
      say 'the tests on S3 are skipped: moto cannot be installed, which needs python3 with venv and pip, and PyPI'
      return
    fi
  fi
  port=$(free_port)
  "$tools/bin/moto_server" -H 127.0.0.1 -p "$port" >"$folder/s3.log" 2>&1 &
  s3_pid=$!
  for _ in $(seq 300); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { export PARLOR_TEST_S3="http://127.0.0.1:$port"; return; }
    kill -0 "$s3_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$folder/s3.log" >&2
  fail 'the S3 server does not start'
}

start_mail() { # an SMTP server for the tests, which puts mails into a Maildir; after start_services, until this shell ends
  local tools=$PWD/target/tools/mail port
  if ! [ -x "$tools/bin/aiosmtpd" ]; then
    say 'installing aiosmtpd, an SMTP server for tests'
    rm -rf "$tools"
    if ! { python3 -m venv "$tools" && "$tools/bin/pip" install -q --disable-pip-version-check 'aiosmtpd==1.4.6'; } >&2; then
      rm -rf "$tools"
      say 'the tests on mail are skipped: aiosmtpd cannot be installed, which needs python3 with venv and pip, and PyPI'
      return
    fi
  fi
  port=$(free_port)
  "$tools/bin/aiosmtpd" -n -l "127.0.0.1:$port" -c aiosmtpd.handlers.Mailbox "$folder/mail" >"$folder/mail.log" 2>&1 &
  mail_pid=$!
  for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      export PARLOR_TEST_SMTP="smtp://127.0.0.1:$port" PARLOR_TEST_MAILDIR="$folder/mail"
      return
    fi
    kill -0 "$mail_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$folder/mail.log" >&2
  fail 'the SMTP server does not start'
}

# The client libraries that the stories of the dialects run, each pinned.
node_packages=(socket.io-client@4.8.4 ws@8.23.0 swr@2.5.1 react@19.3.1 react-dom@19.3.1 jsdom@29.1.1)

install_node_clients() { # the libraries of web clients that the tests run
  local tools=$PWD/target/tools/node
  command -v npm >/dev/null || install npm
  if [ "$(cat "$tools/installed" 2>/dev/null)" != "${node_packages[*]}" ]; then
    say 'installing the client libraries for tests'
    rm -rf "$tools"
    mkdir -p "$tools"
    npm install --silent --no-fund --no-audit --prefix "$tools" "${node_packages[@]}" >&2 \
      || fail 'the client libraries for tests cannot be installed, which needs npm and its registry'
    printf '%s' "${node_packages[*]}" >"$tools/installed"
  fi
  export PARLOR_TEST_NODE_MODULES="$tools/node_modules" PARLOR_TEST_REQUIRE_NODE=1
}

stop_services() {
  [ -z "${mail_pid:-}" ] || kill "$mail_pid" 2>/dev/null || true
  [ -z "${s3_pid:-}" ] || kill "$s3_pid" 2>/dev/null || true
  [ -z "${nats_pid:-}" ] || kill "$nats_pid" 2>/dev/null || true
  [ ! -e "$folder/pg/postmaster.pid" ] || "${as_owner[@]}" "$postgres/pg_ctl" -D "$folder/pg" -m immediate -s stop || true
  [ -n "$keep" ] || rm -rf "$folder"
}
