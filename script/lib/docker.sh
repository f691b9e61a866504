# shellcheck shell=bash disable=SC2034,SC2154
# The Docker engine. One that answers is used and left alone. Where none does, one of ours runs for as long as somebody uses it.
#
# A user is a process that holds a shared lock on `users` (the descriptor goes to its children with `exec`, and a killed
# process loses it). The engine's keeper waits for the exclusive lock, which it gets when the last user is gone, and stops the
# engine while it holds it. So nothing counts, and nothing is left to clean up after `kill -9`.

docker_state=/run/spheron
docker_socket=/var/run/docker.sock

docker_answers() { curl --silent --fail --max-time 5 --unix-socket "$docker_socket" http://docker/_ping >/dev/null 2>&1; }

# Returns when an engine answers; it keeps answering for as long as this process, or a child of it, lives.
ensure_docker() {
    if [[ -n ${DOCKER_HOST:-} ]]; then return 0; fi
    if ((EUID != 0)); then
        docker_answers || die "no Docker engine answers on $docker_socket, and only root can start one; start it or run this as root"
        return 0
    fi
    # Only root may hold the locks in it.
    mkdir -p -m 0700 "$docker_state"
    exec {docker_user}>"$docker_state/users"
    # A keeper that is stopping its engine holds the lock.
    flock --shared --timeout 60 "$docker_user" || die "waited 60 s for the Docker engine before this one to stop; see $docker_state/dockerd.log"
    exec {docker_start}>"$docker_state/start"
    flock --timeout 120 "$docker_start" || die "waited 120 s for another script to start the Docker engine; see $docker_state/dockerd.log"
    docker_answers || start_docker
    exec {docker_start}>&-
}

start_docker() {
    local log=$docker_state/dockerd.log waited=0
    iptables --table nat --list --numeric >/dev/null 2>&1 ||
        die "iptables does not work here ($(iptables --version)), and Docker needs it; try: update-alternatives --set iptables /usr/sbin/iptables-legacy"
    say "Starting a Docker engine (it stops when nothing uses it; log: $log)"
    # The keeper must be no user, or it would wait for itself.
    setsid "$root/script/lib/docker-keeper" "$docker_state" >"$log" 2>&1 </dev/null {docker_user}>&- {docker_start}>&- &
    until docker_answers; do
        ((waited++ < 600)) || die "waited 60 s for the Docker engine to answer on $docker_socket; the end of $log: $(tail -n 5 "$log")"
        [[ -e /proc/$! ]] || die "the Docker engine ended at once; the end of $log: $(tail -n 5 "$log")"
        sleep 0.1
    done
}
