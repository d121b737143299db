# Shared by the peer scripts of this folder (see README.md). Sourced, never run.
#
#   up()      starts the peer with `launch` and `say`s what a test must know
#   peer "$@" reads the arguments and calls it

set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$(basename "$0")
cache=$here/.cache
python=$cache/venv/bin/python

fail() { echo "tests/peers/$name: $*" >&2; exit 1; }

# need COMMAND... : what the peer runs on must be there.
need() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null || fail "\`$command\` is missing; run tests/peers/install $name"
  done
}

# A process is the one we started when both its number and its start time (field 22 of its stat line) are the same.
started() { # PID
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${line##*) }
  echo "${20}"
}

# launch SIGNAL COMMAND... : runs a command in a session of its own and records it; SIGNAL ends it.
launch() {
  local signal=$1
  shift
  setsid "$@" </dev/null >>"$state/log" 2>&1 &
  echo "$! $(started $! || echo gone) $signal" >>"$state/processes"
}

# launch_group SIGNAL COMMAND... : the same for what starts helpers of its own; SIGNAL ends all of them.
launch_group() {
  launch "$@"
  sed -i '$s/$/ group/' "$state/processes"
}

# alive : what was launched last still runs.
alive() {
  local pid start rest
  read -r pid start rest < <(tail -n 1 "$state/processes")
  [ "$(started "$pid" || true)" = "$start" ]
}

# until_ready SECONDS COMMAND... : waits for the command to succeed while the peer lives; fails with the end of its log.
until_ready() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if ! alive || [ $SECONDS -ge $end ]; then
      tail -n 20 "$state/log" >&2
      return 1
    fi
    sleep 0.05
  done
}

# free_port : a loopback port that is free now; whoever uses it is ready to be told that it no longer is.
free_port() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# say KEY VALUE : one line of the env file.
say() { echo "$1=$2" >>"$state/env.new"; }

# Throw-away certificates: authority FOLDER CN, then certificate FOLDER NAME CN EXTENSIONS (one day, P-256).
authority() {
  mkdir -p "$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/O=Throw-away/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$1/ca.key" -out "$1/ca.pem" 2>>"$state/log"
}
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=Throw-away/CN=$3" \
    -keyout "$1/$2.key" -out "$1/$2.csr" 2>>"$state/log"
  openssl x509 -req -in "$1/$2.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -days 1 -CAcreateserial \
    -extfile <(printf '%s\n' "$4") -out "$1/$2.pem" 2>>"$state/log"
}

stop_all() {
  local pid start signal group end
  [ -f "$state/processes" ] || return 0
  while read -r pid start signal group; do
    [ "$(started "$pid" || true)" = "$start" ] || continue
    kill "-$signal" -- "${group:+-}$pid" 2>/dev/null || true
    end=$((SECONDS + 10))
    while [ "$(started "$pid" || true)" = "$start" ]; do
      # A process that has ended but was not collected by its parent is over.
      [ "$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2>/dev/null || echo Z)" = Z ] && break
      [ $SECONDS -lt $end ] || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
  done < <(tac "$state/processes")
  rm -f "$state/processes" "$state/env"
}

# watch OWNER : stops the peer when its owner has ended without doing so (a test that was killed).
watch() {
  local owner=$1 start
  start=$(started "$owner") || return 0
  (
    trap '' INT HUP
    while [ "$(started "$owner" || true)" = "$start" ] && [ -f "$state/env" ]; do sleep 0.5; done
    [ -f "$state/env" ] && exec "$0" down "$state"
  ) </dev/null >/dev/null 2>&1 &
}

peer() {
  [ $# = 2 ] || fail "usage: tests/peers/$name up|down DIRECTORY"
  case $1 in
    up)
      mkdir -p "$2"
      state=$(cd "$2" && pwd)
      [ ! -e "$state/processes" ] || fail "something was started in \`$state\` already"
      [ -x "$python" ] || fail "\`$python\` is missing; run tests/peers/install $name"
      : >"$state/log"
      : >"$state/env.new"
      : >"$state/processes"
      # Not in a condition: there, `up` would go on after a command that failed.
      set +e
      (set -e; up)
      done=$?
      set -e
      if [ $done != 0 ]; then
        stop_all
        fail "did not start; its log is \`$state/log\`"
      fi
      mv "$state/env.new" "$state/env"
      [ -z "${PEER_OWNER:-}" ] || watch "$PEER_OWNER"
      ;;
    down)
      [ -d "$2" ] || exit 0
      state=$(cd "$2" && pwd)
      stop_all
      ;;
    *) fail "usage: tests/peers/$name up|down DIRECTORY" ;;
  esac
}
