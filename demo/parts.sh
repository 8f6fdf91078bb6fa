# shellcheck shell=bash
# The parts of demo/run.sh: a throw-away world, and what is done and seen in it.

readonly host=pg.example.com

world='' daemon='' port='' pid='' generation=0 step=0 lines_shown=0
# Where PostgreSQL's programs are, and the name of the instance, such as 17-main.
postgres='' instance=''
bold='' faint='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' faint=$'\e[2m' red=$'\e[1;31m' plain=$'\e[0m'
fi

# --- words ----------------------------------------------------------------------------------------

title() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$step" "$*" "$plain"
}

say() {
    printf '   %s\n' "$*"
}

typed() {
    printf '%s$ %s%s\n' "$faint" "$*" "$plain"
}

fail() {
    printf '\n%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# Repeats a command ten times a second until it succeeds, for at most this many seconds.
within() { # SECONDS EXPECTED COMMAND...
    local seconds=$1 expected=$2 begun=$SECONDS
    shift 2
    until "$@"; do
        [[ $((SECONDS - begun)) -le $seconds ]] || fail "not within $seconds s: $expected"
        sleep 0.1
    done
}

# --- a world that leaves nothing behind -----------------------------------------------------------

make_world() {
    local binary
    binary=$(realpath -- "$1")
    [[ -x $binary ]] || fail "$1 doesn't exist; make build makes it"
    find_postgres
    # The caller's environment may have settings for other servers.
    unset "${!PG@}" OPENSSL_CONF
    export LC_ALL=C
    umask 022
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    world=$(mktemp -d /tmp/pgcertd-demo.XXXXXX)
    chmod 0755 "$world"
    cd "$world"
    # Not the caller's ~/.postgresql.
    export HOME=$world
    # User postgres may not be able to reach the build directory.
    install -D "$binary" bin/pgcertd
    mkdir -m 0755 letsencrypt
    mkdir -m 0700 letsencrypt/live letsencrypt/archive ca
    as_postgres true || fail "this host has no user postgres"
    if is_root; then
        install -d -o postgres -g postgres state run data
    else
        mkdir state run data
    fi
}

# The newest PostgreSQL installed: Debian keeps each version's programs apart, others have one on the path.
find_postgres() {
    local initdb
    initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    [[ -x $initdb ]] || initdb=$(command -v initdb) ||
        fail "PostgreSQL is missing; on Debian: apt install postgresql"
    postgres=${initdb%/*}
    instance=$("$initdb" --version | sed -E 's/.* ([0-9]+).*/\1/')-main
}

is_root() {
    [[ $(id -u) -eq 0 ]]
}

clean_up() {
    local status=$? log
    trap - EXIT
    trap '' HUP INT PIPE TERM # Don't leave half of it behind.
    [[ -n $world ]] || exit "$status"
    cd /
    for log in pgcertd.log data/log; do
        if [[ $status -eq 1 && -s $world/$log ]]; then
            printf -- '--- %s\n%s\n' "$log" "$(tail -n 20 "$world/$log")" >&2
        fi
    done
    if [[ -n ${session_PID:-} ]]; then
        kill "$session_PID" 2>/dev/null || true
    fi
    if [[ -n $daemon ]]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [[ -e $world/data/postmaster.pid ]]; then
        as_postgres "$postgres/pg_ctl" stop -s -D "$world/data" -m immediate || true
    fi
    rm -rf -- "$world"
    exit "$status"
}

# PostgreSQL doesn't run as root.
as_postgres() {
    if is_root; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

# --- certificates ---------------------------------------------------------------------------------

ec=(-algorithm EC -pkeyopt ec_paramgen_curve:P-256)
rsa=(-algorithm RSA -pkeyopt rsa_keygen_bits:2048)

make_ca() {
    cat >ca/openssl.cnf <<END
[ca]
default_ca = demo
[demo]
database = ca/index
new_certs_dir = ca
serial = ca/serial
certificate = ca/intermediate.crt
private_key = ca/intermediate.key
default_md = sha256
policy = names
x509_extensions = leaf
[names]
commonName = supplied
[leaf]
basicConstraints = CA:false
keyUsage = digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:$host
[req]
distinguished_name = none
[none]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
END
    echo 'unique_subject = no' >ca/index.attr
    : >ca/index
    authority root "Demo Root" -key ca/root.key
    authority intermediate "Demo Intermediate" -CA ca/root.crt -CAkey ca/root.key
    # Clients may only read the root.
    cp ca/root.crt root.crt
}

authority() { # NAME COMMON-NAME SIGNER-OPTION...
    openssl genpkey "${ec[@]}" -out "ca/$1.key"
    openssl req -x509 -new -config ca/openssl.cnf -extensions authority -subj "/CN=$2" \
        -days 3650 -key "ca/$1.key" "${@:3}" -out "ca/$1.crt"
}

# A 90-day certificate with this many days and an hour left: ca/SERIAL.crt, ca/SERIAL.key.
issue() { # SERIAL DAYS-LEFT KEY-OPTION...
    local stamp=+%y%m%d%H%M%SZ
    openssl genpkey -quiet "${@:3}" -out "ca/$1.key"
    openssl req -new -config ca/openssl.cnf -key "ca/$1.key" -subj "/CN=$host" -out ca/request
    echo "$1" >ca/serial
    openssl ca -batch -notext -config ca/openssl.cnf -in ca/request -out "ca/$1.crt" \
        -startdate "$(date -u -d "-$((90 - $2)) days -1 hour" $stamp)" \
        -enddate "$(date -u -d "+$2 days +1 hour" $stamp)" 2>ca/log || fail "$(<ca/log)"
}

# Renews as certbot does: writes new files into archive/, then replaces each link in live/.
renew() { # SERIAL [SERIAL-OF-THE-KEY]
    local archive=letsencrypt/archive/$host live=letsencrypt/live/$host
    generation=$((generation + 1))
    mkdir -p "$archive" "$live"
    install -m 0600 "ca/${2:-$1}.key" "$archive/privkey$generation.pem"
    install -m 0644 "ca/$1.crt" "$archive/cert$generation.pem"
    install -m 0644 ca/intermediate.crt "$archive/chain$generation.pem"
    cat "ca/$1.crt" ca/intermediate.crt >"$archive/fullchain$generation.pem"
    # In one process, so that the links are missing only as briefly as with certbot.
    perl -e 'for my $kind (qw(cert privkey chain fullchain)) {
        unlink "$ARGV[1]/$kind.pem";
        symlink "../../$ARGV[0]/$kind$ARGV[2].pem", "$ARGV[1]/$kind.pem" or die $!;
    }' "archive/$host" "$live" "$generation"
}

# --- PostgreSQL -----------------------------------------------------------------------------------

make_cluster() {
    as_postgres "$postgres/initdb" -D "$world/data" --auth=trust --username=postgres \
        --no-sync --encoding=UTF8 --no-locale >initdb.log 2>&1 || fail "$(<initdb.log)"
    cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
ssl = on
ssl_cert_file = '$world/state/$instance/server.pem'
ssl_key_file = '$world/state/$instance/server.pem'
ssl_dh_params_file = '$world/dh.pem'
END
    # A reload would name this file as one that had changed: a server knows its start to the second.
    touch -d '1 minute ago' data/postgresql.conf
    # An OpenSSL that takes no key below 128 bits of security, RSA-2048 for one, and no such
    # Diffie-Hellman group, as PostgreSQL's own is.
    printf '%s\n' 'openssl_conf = main' '[main]' 'ssl_conf = ssl' '[ssl]' \
        'system_default = all' '[all]' 'CipherString = DEFAULT@SECLEVEL=3' >strict.cnf
    openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe3072 -out dh.pem
}

start_postgres() {
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 12000))
        if as_postgres env "OPENSSL_CONF=$world/strict.cnf" "$postgres/pg_ctl" start -w -s \
            -D "$world/data" -l "$world/data/log" -o "-p $port" >pg_ctl.log 2>&1; then
            return
        fi
        # If another program has the port, try another.
        grep -q 'Address already in use' data/log || break
    done
    fail "PostgreSQL did not start"
}

conninfo() {
    echo "host=$host hostaddr=127.0.0.1 port=$port user=postgres dbname=postgres" \
        "sslmode=verify-full sslrootcert=$world/root.crt connect_timeout=5"
}

# The served certificate, as another program than pgcertd sees it.
wire() {
    openssl s_client -starttls postgres -connect "127.0.0.1:$port" -CAfile root.crt \
        -verify_hostname "$host" -verify_return_error </dev/null 2>/dev/null |
        openssl x509 -noout "$@" 2>/dev/null
}

is_served() { # SERIAL
    [[ $(wire -serial) == "serial=$1" ]]
}

# psql connects with full verification, and gets this certificate.
client_accepts() { # SERIAL
    local protocol serial expires
    typed "psql \"host=$host sslmode=verify-full\""
    protocol=$(psql -XAtq "$(conninfo)" 2>&1 \
        -c 'SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()') || fail "$protocol"
    serial=$(wire -serial) expires=$(wire -enddate)
    say "accepted ($protocol): serial ${serial#*=}, expires $(date -d "${expires#*=}" +%F)"
    [[ $serial == "serial=$1" ]] || fail "the serial should be $1"
}

open_session() {
    coproc session { exec psql -XAtq "$(conninfo)" 2>&1; }
    pid=$(backend)
    say "a session stays open from here on: backend $pid"
}

backend() {
    local answer
    [[ -n ${session_PID:-} ]] || fail "the open session has ended"
    echo 'SELECT pg_backend_pid();' >&"${session[1]}"
    read -r -t 10 answer <&"${session[0]}" || fail "the open session does not respond"
    [[ $answer =~ ^[0-9]+$ ]] || fail "the open session says: $answer"
    echo "$answer"
}

session_lives() {
    local now
    now=$(backend)
    [[ $now == "$pid" ]] || fail "the open session has another backend: $now"
    say "the session is still open: backend $now"
}

# --- pgcertd --------------------------------------------------------------------------------------

configure() {
    cat >pgcertd.toml <<END
state_directory = "state"
runtime_directory = "run"

[watch]
directories = ["letsencrypt/live"]
settle_timeout = "2s"

[[instance]]
name = "$instance"
lineage = "$host"
data_directory = "data"
server_names = ["$host"]
END
}

pgcertd() {
    "$world/bin/pgcertd" "$@" --config "$world/pgcertd.toml"
}

# Runs a command of pgcertd, shows it as typed, and checks its exit status.
shown() { # STATUS ARGUMENT...
    local expected=$1 status=0 seen
    shift
    typed "pgcertd $*"
    # Leaves out other servers of this host, which it lists at the end.
    seen=$(CLICOLOR_FORCE=${bold:+1} pgcertd "$@" | sed -E '/^(\x1b[^m]*m)?\?/,$d') || status=$?
    printf '%s\n' "$seen"
    [[ $status -eq $expected ]] || fail "pgcertd $* ended with status $status, not $expected"
}

# As the unit runs it: user postgres, with one capability to read what only root can. If the container
# can't grant that capability, as root.
start_daemon() {
    : >pgcertd.log
    local only=all,+dac_read_search unit
    unit=(setpriv --reuid=postgres --regid=postgres --init-groups --no-new-privs
        "--bounding-set=-$only" "--inh-caps=-$only" "--ambient-caps=-$only")
    if is_root && "${unit[@]}" true 2>/dev/null; then
        say "user postgres with CAP_DAC_READ_SEARCH; only root may read live/"
    else
        unit=()
        say "user $(id -un)"
    fi
    "${unit[@]}" "$world/bin/pgcertd" run --config "$world/pgcertd.toml" </dev/null \
        >pgcertd.log 2>&1 &
    daemon=$!
}

shown_state() { # STATE
    local status=1
    [[ $1 != in_sync ]] || status=0
    within 10 "status shows $1" state_is "$1"
    shown "$status" status
}

state_is() { # STATE
    local seen
    # The exit status only says whether all is well.
    seen=$(pgcertd status) || true
    grep -q "^..$instance  *$1 " <<<"$seen"
}

# Shows the daemon's new lines, once one of them contains this text.
daemon_says() { # TEXT
    local lines
    within 10 "the daemon says: $1" has_said "$1"
    lines=$(new_lines)
    lines_shown=$((lines_shown + $(wc -l <<<"$lines")))
    # Leaves out other servers of this host.
    sed "s|$world/||g; /no instance covers it/d" <<<"$lines" | fold -s -w 66 | sed 's/^/   pgcertd: /; s/ *$//'
}

has_said() {
    new_lines | grep -q -- "$1"
}

new_lines() {
    tail -n "+$((lines_shown + 1))" pgcertd.log
}
