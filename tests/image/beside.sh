# shellcheck shell=bash
# A host with pgcertd on it, and a container of PostgreSQL that has the data directory and the certificate from there.

# What would be signalled by the number in postmaster.pid alone: the first process of this host, which is this one.
hangups=0
trap 'hangups=$((hangups + 1))' HUP

make_host() { # NUMBER-OF-THE-CONTAINER'S-POSTGRES
    local user=$1 container
    host=$world/host
    rm -rf "$host"
    mkdir "$host" "$host/run" "$host/state"
    cd "$host"
    install -d -o "$user" -g "$user" -m 0755 certificates
    install -d -o "$user" -g "$user" -m 0700 data
    mkdir -m 0700 live archive
    # The program of the image.
    container=$(docker create pgcertd)
    docker cp "$container:/usr/bin/pgcertd" pgcertd
    docker rm "$container" >/dev/null
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=Image Root' -days 30 \
        -keyout root.key -out root.crt 2>/dev/null
    # The container has a network of its own: its address is known once it runs.
    configure ''
    renew 1001
    shown 0 sync
    openssl rand -hex 24 >password
    # A user of another number in there reads it.
    chmod 0644 password
    postgres=$(docker run --detach --env POSTGRES_PASSWORD_FILE=/password --volume "$host/password:/password:ro" \
        --volume "$host/data:/var/lib/postgresql/data" --volume "$host/certificates:/certificates:ro" \
        postgres:17 postgres -c ssl=on \
        -c ssl_cert_file=/certificates/server.pem -c ssl_key_file=/certificates/server.pem)
    address=$(docker inspect --format '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$postgres"):5432
    process=$(docker inspect --format '{{.State.Pid}}' "$postgres")
    within 60 "PostgreSQL is served" is_served "$address" root.crt serial=1001
    say "PostgreSQL at $address: process $process of user $(stat --format %u "/proc/$process") here," \
        "$(head -n 1 data/postmaster.pid) in its postmaster.pid; data directory of $(stat --format %u data)"
    [[ $(head -n 1 data/postmaster.pid) == 1 && $$ == 1 ]] || fail "neither is the first process"
}

configure() { # LINE
    cat >pgcertd.toml <<END
state_directory = "state"
runtime_directory = "run"

[watch]
directories = ["live"]

[[instance]]
name = "contained"
lineage = "$lineage"
data_directory = "data"
cert_file = "certificates/server.pem"
server_names = ["$lineage"]
$1
END
}

# What certbot does: new files in archive/, then each link in live/ anew.
renew() { # SERIAL
    local kind
    mkdir -p "archive/$lineage" "live/$lineage"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$lineage" \
        -keyout "archive/$lineage/privkey$1.pem" -out request 2>/dev/null
    openssl x509 -req -in request -CA root.crt -CAkey root.key -set_serial "0x$1" -days 20 \
        -extfile <(echo "subjectAltName=DNS:$lineage") -out "archive/$lineage/fullchain$1.pem" 2>/dev/null
    chmod 0600 "archive/$lineage/privkey$1.pem"
    for kind in privkey fullchain; do
        rm -f "live/$lineage/$kind.pem"
        ln -s "../../archive/$lineage/$kind$1.pem" "live/$lineage/$kind.pem"
    done
}

pgcertd() {
    ./pgcertd "$@" --config pgcertd.toml
}

# A command of pgcertd as typed, and the exit status that it must have.
shown() { # STATUS ARGUMENT...
    local expected=$1 status=0
    shift
    say "$ pgcertd $*"
    pgcertd "$@" || status=$?
    [[ $status -eq $expected ]] || fail "pgcertd $* ended with status $status, not $expected"
}

state() {
    pgcertd status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["instances"][0]["state"])'
}

state_is() { # STATE
    [[ $(state) == "$1" ]]
}

without_an_address() {
    title "Without an address, since what listens at that port here is another server"
    shown 1 sync
    shown 1 status
    state_is unverified || fail "the state is $(state)"
}

keeps_it() {
    local began daemon
    title "With its address: a renewal, by the daemon"
    configure "address = \"$address\""
    shown 0 status
    began=$(start_of "$postgres")
    export PGPASSWORD
    PGPASSWORD=$(<password)
    open_session "host=$lineage hostaddr=${address%:*} user=postgres dbname=postgres sslmode=verify-full \
        sslrootcert=$host/root.crt"
    : >pgcertd.log
    ./pgcertd run --config pgcertd.toml >>pgcertd.log 2>&1 &
    daemon=$!
    within 20 "the daemon is up" grep -q . pgcertd.log
    renew 1002
    within 20 "the renewal is served: $(<pgcertd.log)" is_served "$address" root.crt serial=1002
    session_lives
    within 10 "it is well" state_is in_sync
    shown 0 status
    SSL_CERT_FILE=root.crt shown 0 check
    [[ $(start_of "$postgres") == "$began" ]] || fail "postgres has been restarted"

    title "The container restarts, and then a renewal"
    docker restart "$postgres" >/dev/null
    within 60 "PostgreSQL is served" is_served "$address" root.crt serial=1002
    renew 1003
    within 20 "the renewal is served: $(<pgcertd.log)" is_served "$address" root.crt serial=1003
    sed 's/^/   pgcertd: /' pgcertd.log
    kill "$daemon"
    wait "$daemon" || fail "pgcertd has ended with status $?"
    [[ $hangups -eq 0 ]] || fail "the first process of this host got SIGHUP"
    # It would have been seen.
    kill -HUP $$
    [[ $hangups -eq 1 ]] || fail "the first process of this host sees no SIGHUP"
}
