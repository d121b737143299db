# What the walks through the examples have in common. To be sourced after `tool` (its name), `vo` and `peer` (a script of
# tests/peers, brought up in $work/$peer) are set: a work folder, a gateway to bring up, and steps that are shown and checked.
# COUNTERSIGN names the program (target/debug/countersign otherwise). Nothing is left running, and nothing behind.
# shellcheck shell=bash disable=SC2154  # tool, vo and peer are the walk's
set -euo pipefail

program=$(realpath "${COUNTERSIGN:-target/debug/countersign}")
work=$(mktemp -d -t "countersign-$tool-XXXXXX")
gateway_process=
finish() {
  local status=$?
  trap '' INT TERM
  if [ $status != 0 ] && [ -f "$work/serve.log" ]; then
    printf '%s\n' "--- the gateway's last words" "$(tail -n 20 "$work/serve.log")" >&2
  fi
  [ -z "$gateway_process" ] || { kill "$gateway_process" 2>/dev/null && wait "$gateway_process"; } || true
  "tests/peers/$peer" down "$work/$peer" || true
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -x "$program" ] || { echo "\`$program\` is missing: cargo build" >&2; exit 1; }

number=0 hidden=none hidden_as=
step() { number=$((number + 1)); printf '\n%2d  %s\n' $number "$*"; }
exec 3>&1
# What is typed, without the paths of this machine: $work is $D, and what the walk calls `hidden` goes by the name `hidden_as`.
typed() { local line=${*//$work/\$D}; echo "    \$ ${line//$hidden/$hidden_as}" >&3; }
quoted() { local word; for word in "$@"; do case $word in *[\ {?]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac; done; }
show() { sed 's/^/      /'; }
fail() { echo "NOT AS TOLD: $*" >&2; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: \`$2\`, not \`$3\`"; }
# peer_says NAME : what the peer's script says of itself.
peer_says() { sed -n "s/^$1=//p" "$work/$peer/env"; }

# field KEY... : what is there in the JSON of stdin; texts as they are, everything else as JSON.
field() { /usr/bin/python3 -c 'import json, sys; value = json.load(sys.stdin)
for key in sys.argv[1:]: value = value[int(key) if isinstance(value, list) else key]
print(value if isinstance(value, str) else json.dumps(value, sort_keys=True))' "$@"; }

# as PERSON ARGUMENT... : the command line with that person's own sign-in.
as() {
  local person=$1
  shift
  COUNTERSIGN_CONFIG=$work/people/$person "$program" "$@" 2>"$work/said" || { cat "$work/said" >&2; return 1; }
}
# run PERSON ARGUMENT... : the same, shown.
run() {
  typed "countersign$(quoted "${@:2}")"
  as "$@"
}

# enter PERSON ONE-TIME-PASSWORD : signs in for the first time and chooses an own password.
enter() {
  (umask 077; printf '%s' "$2" >"$work/first"; openssl rand -hex 12 >"$work/own")
  run "$1" login --gateway "$gateway" --ca "$authority" --user "$1" --password-file "$work/first" \
    --new-password-file "$work/own" >/dev/null
}

# person NAME FULL-NAME ROLE : a member of the VO with one role.
person() {
  run alice user add $vo "$1" --name "$2" --role "$3" --show-password --json >"$work/added"
  enter "$1" "$(field one_time_password <"$work/added")"
}
id_of() { as alice user show $vo "$1" --json | field id; }

# bring_up_gateway : a gateway with the VO and its administrator Alice, who is signed in then.
bring_up_gateway() {
  run alice init --data "$work/data" --vo $vo --admin alice --admin-name "Alice Hill" --throwaway --listen 127.0.0.1:0 \
    --operations 127.0.0.1:0 --json >"$work/init.json"
  authority=$(field ca <"$work/init.json")
  typed "countersign serve --data $work/data &"
  # It goes with this script, however that ends.
  setpriv --pdeathsig TERM "$program" serve --data "$work/data" >"$work/serve.log" 2>&1 &
  gateway_process=$!
  for _ in $(seq 600); do
    [ ! -f "$work/data/listeners.json" ] || break
    kill -0 $gateway_process 2>/dev/null || fail "the gateway ended"
    sleep 0.05
  done
  [ -f "$work/data/listeners.json" ] || fail "the gateway does not say where it listens"
  gateway=$(field base <"$work/data/listeners.json")
  echo "serving $gateway" | show
  enter alice "$(field one_time_password <"$work/init.json")"
  export COUNTERSIGN_REASON="the walk through the example"
  typed "export COUNTERSIGN_REASON='$COUNTERSIGN_REASON'"
}

# ask PERSON STATUS METHOD PATH [CURL-OPTION...] : a request through the gateway; its answer is then in $work/body, its
# head in $work/head, its number in $request.
ask() {
  local person=$1 status=$2 method=$3 path=$4 token found
  shift 4
  typed "curl --cacert \$D/data/tls/ca.pem -H \"Authorization: Bearer \$${person^^}\" -X $method$(quoted "$@")" "\"\$GW/$vo/$tool$path\""
  token=$(field token <"$work/people/$person/login.json")
  found=$(curl -sS --cacert "$authority" -H @- -X "$method" -D "$work/head" -o "$work/body" -w '%{http_code}' "$@" \
    "$gateway/$vo/$tool$path" <<<"Authorization: Bearer $token")
  [ "$found" = "$status" ] || fail "$person: $method $path gave $found, not $status: $(head -c 500 "$work/body")"
  request=$(sed -n 's/^x-countersign-request-id: *\([0-9a-f-]*\).*$/\1/ip' "$work/head")
}
answer() { field "$@" <"$work/body"; }
# refused PERSON STATUS PROBLEM METHOD PATH [CURL-OPTION...] : a request that is refused for that reason, which is shown.
refused() {
  ask "$1" "$2" "${@:4}"
  same "refused as" "$(basename "$(answer type)")" "$3"
  same "number of the request" "$(answer request_id)" "$request"
  printf '%s\n' "$2 $(answer title)" "$(answer detail)" "next: $(answer next)" | show
}

# the_log_verifies : the gateway ends in order, and its log is verified with the public key alone.
the_log_verifies() {
  kill $gateway_process
  wait $gateway_process || fail "the gateway did not stop in order: status $?"
  gateway_process=
  run alice audit verify --data "$work/data" | show
  printf '\nAll of it was as told.\n'
}
