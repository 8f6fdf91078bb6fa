# shellcheck shell=bash
# The parts of the stages: an engine in the namespaces of its own, what is done by it, and what is seen.

readonly lineage=postgres.example.com
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root
# Where an engine looks for another one and keeps what is the host's.
readonly engines=(/etc/docker /run/containerd /run/docker)
# Which others' variables of the same programs are not for this one.
unset "${!PG@}" "${!DOCKER_@}" "${!COMPOSE_@}"
export LC_ALL=C

step=0

title() {
    step=$((step + 1))
    printf '\n%d. %s\n' "$step" "$*"
}

say() {
    printf '   %s\n' "$*"
}

fail() {
    printf '\nimage: %s\n' "$*" >&2
    exit 1
}

# Tries a command five times a second, for so many seconds at most.
within() { # SECONDS WISH COMMAND...
    local seconds=$1 wish=$2 begun=$SECONDS
    shift 2
    until "$@"; do
        [[ $((SECONDS - begun)) -le $seconds ]] || fail "not within $seconds s: $wish"
        sleep 0.2
    done
}

# --- the engine -----------------------------------------------------------------------------------

# The first process of its namespaces calls it; with that, the engine and all its containers end.
start_engine() { # OPTION-OF-DOCKERD...
    local directory
    trap stage_ends EXIT
    trap 'exit 143' TERM
    ip link set lo up
    # Where engines of the host have theirs; run has made what was not there.
    for directory in "${engines[@]}"; do
        mount -t tmpfs -o mode=0711 tmpfs "$directory"
    done
    rm -rf "$world/exec" "$world/client"
    echo '{}' >"$world/daemon.json"
    clients
    export DOCKER_HOST=unix://$world/docker.sock DOCKER_CONFIG=$world/client DOCKER_BUILDKIT=1
    dockerd --config-file "$world/daemon.json" --data-root "$world/engine" --exec-root "$world/exec" \
        --pidfile "$world/dockerd.pid" --host "$DOCKER_HOST" --cgroup-parent "/${world##*/}" "$@" \
        </dev/null >"$world/dockerd.log" 2>&1 &
    engine=$!
    within 60 "the engine answers" engine_answers
    say "Docker $(docker version --format '{{.Server.Version}}')," \
        "$(docker info --format '{{.Driver}}, cgroups {{.CgroupVersion}}, {{.DefaultRuntime}}')"
}

# The client that came with the engine: another one in front of it may be too new for it.
clients() {
    local client wanted
    [[ $PATH != "$world/bin:"* ]] || return 0
    wanted=$(dockerd --version | cut -d, -f1)
    mkdir -p "$world/bin"
    for client in $(type -ap docker); do
        if [[ $("$client" --version) == "$wanted,"* ]]; then
            ln -sf "$client" "$world/bin/docker"
        fi
    done
    PATH=$world/bin:$PATH
}

engine_answers() {
    kill -0 "$engine" 2>/dev/null || fail "the engine has ended: $(tail -n 5 "$world/dockerd.log")"
    docker info >/dev/null 2>&1
}

# Containers that are left end first, so that their control groups are empty.
stage_ends() {
    local status=$? left
    trap - EXIT
    trap '' TERM
    if [[ $status -ne 0 ]]; then
        docker ps --all >&2 || true
        for left in $(docker ps --all --quiet); do
            printf -- '--- %s\n' "$(docker inspect --format '{{.Name}} {{.Config.Image}}' "$left")" >&2
            docker logs --tail 30 "$left" >&2 || true
        done
    fi
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null || true
    docker volume ls --quiet | xargs --no-run-if-empty docker volume rm >/dev/null || true
    kill "$engine" 2>/dev/null || true
    wait "$engine" || true
    exit "$status"
}

# --- what clients see -----------------------------------------------------------------------------

# The serial number of the certificate on the wire, by another program than pgcertd, which verifies it.
served() { # HOST:PORT CA-FILE
    openssl s_client -starttls postgres -connect "$1" -CAfile "$2" -verify_hostname "$lineage" \
        -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null
}

is_served() { # HOST:PORT CA-FILE SERIAL
    [[ $(served "$1" "$2") == "$3" ]]
}

# A session that stays open, of a client that verifies all it can.
open_session() { # CONNINFO
    coproc session { exec psql -XAtq "$1" 2>&1; }
    backend=$(asked_backend)
    say "a session stays open from here on: backend process $backend"
}

asked_backend() {
    local answer
    [[ -n ${session_PID:-} ]] || fail "the open session has ended"
    echo 'SELECT pg_backend_pid();' >&"${session[1]}"
    read -r -t 10 answer <&"${session[0]}" || fail "the open session does not answer"
    [[ $answer =~ ^[0-9]+$ ]] || fail "the open session says: $answer"
    echo "$answer"
}

session_lives() {
    local now
    now=$(asked_backend)
    [[ $now == "$backend" ]] || fail "the open session has another backend: process $now"
    say "the open session lives: backend process $now"
}

# What tells one start of a container from another.
start_of() { # CONTAINER
    docker inspect --format '{{.State.StartedAt}} {{.RestartCount}}' "$1"
}
