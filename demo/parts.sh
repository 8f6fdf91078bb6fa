# shellcheck shell=bash
# The parts of demo/run.sh: a throw-away world, and what is done and seen in it.

readonly host=pg.example.com
readonly postgres=/usr/lib/postgresql/15/bin

world='' daemon='' port='' pid='' generation=0 step=0 told=0
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

# Tries a command ten times a second, for so many seconds at most.
within() { # SECONDS WISH COMMAND...
    local seconds=$1 wish=$2 begun=$SECONDS
    shift 2
    until "$@"; do
        [[ $((SECONDS - begun)) -le $seconds ]] || fail "not within $seconds s: $wish"
        sleep 0.1
    done
}

# --- a world that leaves nothing behind -----------------------------------------------------------

make_world() {
    local binary
    [[ $(id -u) -eq 0 ]] || fail "it needs root, to start PostgreSQL as user postgres and to keep" \
        "a lineage as certbot does: make build, then sudo demo/run.sh"
    binary=$(realpath -- "$1")
    [[ -x $binary ]] || fail "$1 is not there; make build makes it"
    [[ -x $postgres/initdb ]] || fail "PostgreSQL 15 is not there; make deps installs it"
    # What the caller's environment says of other servers is not for this one.
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
    # User postgres may be unable to reach the build's directory.
    install -D "$binary" bin/pgcertd
    mkdir -m 0755 letsencrypt
    mkdir -m 0700 letsencrypt/live letsencrypt/archive ca
    install -d -o postgres -g postgres state run data
}

clean_up() {
    local status=$? log
    trap - EXIT
    trap '' HUP INT PIPE TERM # What is begun here is finished.
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

as_postgres() {
    runuser -u postgres -- "$@"
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
    # Clients are no certbot: they may read the root alone.
    cp ca/root.crt root.crt
}

authority() { # NAME COMMON-NAME SIGNER-OPTION...
    openssl genpkey "${ec[@]}" -out "ca/$1.key"
    openssl req -x509 -new -config ca/openssl.cnf -extensions authority -subj "/CN=$2" \
        -days 3650 -key "ca/$1.key" "${@:3}" -out "ca/$1.crt"
}

# A certificate of 90 days, of which so many and an hour are left: ca/SERIAL.crt, ca/SERIAL.key.
issue() { # SERIAL DAYS-LEFT KEY-OPTION...
    local stamp=+%y%m%d%H%M%SZ
    openssl genpkey -quiet "${@:3}" -out "ca/$1.key"
    openssl req -new -config ca/openssl.cnf -key "ca/$1.key" -subj "/CN=$host" -out ca/request
    echo "$1" >ca/serial
    openssl ca -batch -notext -config ca/openssl.cnf -in ca/request -out "ca/$1.crt" \
        -startdate "$(date -u -d "-$((90 - $2)) days -1 hour" $stamp)" \
        -enddate "$(date -u -d "+$2 days +1 hour" $stamp)" 2>ca/log || fail "$(<ca/log)"
}

# What certbot does: new files in archive/, then each link in live/ is removed and made anew.
renew() { # SERIAL [SERIAL-OF-THE-KEY]
    local archive=letsencrypt/archive/$host live=letsencrypt/live/$host
    generation=$((generation + 1))
    mkdir -p "$archive" "$live"
    install -m 0600 "ca/${2:-$1}.key" "$archive/privkey$generation.pem"
    install -m 0644 "ca/$1.crt" "$archive/cert$generation.pem"
    install -m 0644 ca/intermediate.crt "$archive/chain$generation.pem"
    cat "ca/$1.crt" ca/intermediate.crt >"$archive/fullchain$generation.pem"
    # In one process, so that the files are absent for as short a while as with certbot.
    perl -e 'for my $kind (qw(cert privkey chain fullchain)) {
        unlink "$ARGV[1]/$kind.pem";
        symlink "../../$ARGV[0]/$kind$ARGV[2].pem", "$ARGV[1]/$kind.pem" or die $!;
    }' "archive/$host" "$live" "$generation"
}

# --- PostgreSQL -----------------------------------------------------------------------------------

make_cluster() {
    as_postgres "$postgres/initdb" -D "$world/data" --auth=trust --no-sync --encoding=UTF8 \
        --no-locale >initdb.log 2>&1 || fail "$(<initdb.log)"
    cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
ssl = on
ssl_cert_file = '$world/state/16-main/server.pem'
ssl_key_file = '$world/state/16-main/server.pem'
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
        # Where another program has the port, another port will do.
        grep -q 'Address already in use' data/log || break
    done
    fail "PostgreSQL did not start"
}

conninfo() {
    echo "host=$host hostaddr=127.0.0.1 port=$port user=postgres dbname=postgres" \
        "sslmode=verify-full sslrootcert=$world/root.crt connect_timeout=5"
}

# The certificate on the wire, by another program than pgcertd.
wire() {
    openssl s_client -starttls postgres -connect "127.0.0.1:$port" -CAfile root.crt \
        -verify_hostname "$host" -verify_return_error </dev/null 2>/dev/null |
        openssl x509 -noout "$@" 2>/dev/null
}

is_served() { # SERIAL
    [[ $(wire -serial) == "serial=$1" ]]
}

# A client that verifies all it can: psql connects, and what it got is this certificate.
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
    say "a session stays open from here on: backend process $pid"
}

backend() {
    local answer
    [[ -n ${session_PID:-} ]] || fail "the open session has ended"
    echo 'SELECT pg_backend_pid();' >&"${session[1]}"
    read -r -t 10 answer <&"${session[0]}" || fail "the open session does not answer"
    [[ $answer =~ ^[0-9]+$ ]] || fail "the open session says: $answer"
    echo "$answer"
}

session_lives() {
    local now
    now=$(backend)
    [[ $now == "$pid" ]] || fail "the open session has another backend: process $now"
    say "the open session lives: backend process $now"
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
name = "16-main"
lineage = "$host"
data_directory = "data"
server_names = ["$host"]
END
}

pgcertd() {
    "$world/bin/pgcertd" "$@" --config "$world/pgcertd.toml"
}

# A command of pgcertd as typed, and the exit status that it must have.
shown() { # STATUS ARGUMENT...
    local expected=$1 status=0 seen
    shift
    typed "pgcertd $*"
    # At the end it names other servers of this host, which no instance covers: left out here.
    seen=$(CLICOLOR_FORCE=${bold:+1} pgcertd "$@" | sed -E '/^(\x1b[^m]*m)?\?/,$d') || status=$?
    printf '%s\n' "$seen"
    [[ $status -eq $expected ]] || fail "pgcertd $* ended with status $status, not $expected"
}

# As the unit runs it: user postgres, whose one capability lets it read what only root can. Where
# this container has no such capability to give, as root.
start_daemon() {
    : >pgcertd.log
    local only=all,+dac_read_search unit
    unit=(setpriv --reuid=postgres --regid=postgres --init-groups --no-new-privs
        "--bounding-set=-$only" "--inh-caps=-$only" "--ambient-caps=-$only")
    if "${unit[@]}" true 2>/dev/null; then
        say "user postgres with CAP_DAC_READ_SEARCH; live/ is for root alone"
    else
        unit=()
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
    # Its exit status says whether that state is a good one.
    seen=$(pgcertd status) || true
    grep -q "^..16-main  *$1 " <<<"$seen"
}

# The daemon's new lines, once one of them has this text.
daemon_says() { # TEXT
    local lines
    within 10 "the daemon says: $1" has_said "$1"
    lines=$(new_lines)
    told=$((told + $(wc -l <<<"$lines")))
    # Other servers of this host, which no instance covers, are not its matter.
    sed "s|$world/||g; /no instance covers it/d" <<<"$lines" | fold -s -w 66 | sed 's/^/   pgcertd: /; s/ *$//'
}

has_said() {
    new_lines | grep -q -- "$1"
}

new_lines() {
    tail -n "+$((told + 1))" pgcertd.log
}
