#!/usr/bin/env bash
# A real SLURM cluster of virtual nodes on this one machine, for tests and demos.
#
#   slurm-dev-cluster.sh missing            the packages that are not there; 0 when none is missing
#   slurm-dev-cluster.sh install            installs them with apt-get, as root or with a sudo that asks for no password
#   slurm-dev-cluster.sh up                 starts what does not run yet; waits until every node takes jobs
#   slurm-dev-cluster.sh env                prints what clients need: eval "$(slurm-dev-cluster.sh env)"
#   slurm-dev-cluster.sh status             every daemon, its memory, the partitions; 3 when one is down
#   slurm-dev-cluster.sh stop|start PART    PART: munged mariadbd slurmdbd slurmctld node1 node2 ...
#   slurm-dev-cluster.sh pause|resume PART  the daemon answers nobody, but lives
#   slurm-dev-cluster.sh crash NODE         its daemon and its jobs die at once, and the node is DOWN until started
#   slurm-dev-cluster.sh restore            ends every job and undoes stop, pause and crash
#   slurm-dev-cluster.sh down [--purge]     stops everything; --purge removes the directory too
#
# Works as root (jobs of any user) and as an ordinary user (jobs of that user). All state is in SLURM_DEV_DIR; beside
# it only a marked block in /etc/hosts is written, as root, so that node1 ... resolve; `down` takes it out again.
#
# Environment of `up`, all optional:
#   SLURM_DEV_DIR         a path short enough for sockets in it (/tmp/slurm-dev-UID); every other verb needs it too
#   SLURM_DEV_NODES       virtual nodes                         (4)
#   SLURM_DEV_CPUS        CPUs that each node claims            (16)
#   SLURM_DEV_MEM         MB that each node claims              (65536)
#   SLURM_DEV_GPUS        fake GPUs of each node, 0 for none    (8)
#   SLURM_DEV_ACCOUNTING  dbd | filetxt | none                  (dbd)
#   SLURM_DEV_ENFORCE     AccountingStorageEnforce, with dbd    (associations,limits,qos)
#   SLURM_DEV_USERS       users with an account, beside root and the caller ("")
#   SLURM_DEV_KILL_INVALID_DEPEND  1 cancels jobs whose dependency can never be met (0)
#   SLURM_DEV_KILL_WAIT   seconds between SIGTERM and SIGKILL at a time limit (15). SLURM looks at time limits only
#                         every 30 s, which no setting changes.
#   SLURM_DEV_PORT_BASE   first of the TCP ports, 11 + nodes    (26800)
#   SLURM_DEV_UTS         1 gives every node a host name of its own (1 where the kernel lets us)
#   SLURM_DEV_EXTRA_CONF  text appended to slurm.conf           ("")
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=$(id -un)
is_root() { [ "$EUID" = 0 ]; }

directory=${SLURM_DEV_DIR:-/tmp/slurm-dev-$EUID}
nodes=${SLURM_DEV_NODES:-4}
accounting=${SLURM_DEV_ACCOUNTING:-dbd}
port_base=${SLURM_DEV_PORT_BASE:-26800}
own_host_names=${SLURM_DEV_UTS:-}

etc=$directory/etc run=$directory/run log=$directory/log spool=$directory/spool
munge_socket=$run/munge/munge.socket.2
database_socket=$run/db/mysqld.sock
if is_root; then slurm_user=slurm munge_user=munge database_user=mysql
else slurm_user=$me munge_user=$me database_user=$me; fi

# shellcheck source-path=SCRIPTDIR source=slurm-dev-packages.sh
. "$here/slurm-dev-packages.sh"
# shellcheck source-path=SCRIPTDIR source=slurm-dev-conf.sh
. "$here/slurm-dev-conf.sh"
# shellcheck source-path=SCRIPTDIR source=slurm-dev-processes.sh
. "$here/slurm-dev-processes.sh"
# shellcheck source-path=SCRIPTDIR source=slurm-dev-start.sh
. "$here/slurm-dev-start.sh"

say() { printf 'slurm-dev: %s\n' "$*" >&2; }
die() { say "ERROR: $*"; exit 1; }
die_with_logs() {
    local file
    for file in "$log"/*.log "$log"/*/*.log; do [ -s "$file" ] && { echo "==> $file"; tail -n 5 "$file"; } >&2; done
    die "$@"
}
node_names() { seq -f 'node%.0f' 1 "$nodes"; }
parts() {
    echo munged
    [ "$accounting" != dbd ] || printf '%s\n' mariadbd slurmdbd
    echo slurmctld
    node_names
}
client() { SLURM_CONF=$etc/slurm.conf timeout 20 "$@"; }
wait_for() { # SECONDS DESCRIPTION COMMAND...
    local tries=$(($1 * 10)) what=$2; shift 2
    while ! "$@" >/dev/null 2>&1; do
        [ $((tries--)) -gt 0 ] || die_with_logs "waited in vain for $what"
        sleep 0.1
    done
}

edit_hosts() { # add | remove: rewritten in place, since it is often a bind mount
    is_root && [ -w /etc/hosts ] || return 0
    local begin="# slurm-dev $directory begin" end="# slurm-dev $directory end" text name
    exec 8</etc/hosts
    flock 8
    text=$(awk -v begin="$begin" -v end="$end" '$0==begin{ours=1} !ours{print} $0==end{ours=0}' /etc/hosts)
    if [ "$1" = add ]; then
        text+=$'\n'$begin
        for name in $(node_names); do text+=$'\n'"127.0.0.1 $name"; done
        text+=$'\n'$end
    fi
    [ "$text" = "$(cat /etc/hosts)" ] || printf '%s\n' "$text" >/etc/hosts
    exec 8<&-
}

with_lock() { # COMMAND...: one at a time in a directory; daemons must not inherit the lock
    exec 9<"$directory"
    flock -w 120 9 || die "another slurm-dev-cluster.sh is at work in $directory"
    "$@"
}
start_everything() {
    local part
    for part in $(parts); do
        start_part "$part" 9<&-
        # Not earlier: slurmdbd learns what a GPU is from slurmctld.
        [ "$part" != slurmctld ] || make_accounts
    done
}
count_nodes() { # STATES-PATTERN
    client sinfo -h -N -p gpu -o '%N %T' | sort -u | grep -cE " ($1)\$"
}
nodes_are() { [ "$(count_nodes "$1")" = "$nodes" ]; }
up() {
    local missing began=$SECONDS
    [[ $accounting =~ ^(dbd|filetxt|none)$ ]] || die "SLURM_DEV_ACCOUNTING is '$accounting', not dbd, filetxt or none"
    missing=$(packages_missing | paste -sd' ')
    [ -z "$missing" ] || die "packages are missing: $missing. Install them: $here/${0##*/} install"
    write_configuration
    if [ "$configuration_changed" = 1 ] && is_alive slurmctld; then
        say "the configuration has changed: restarting slurmctld and slurmd; jobs survive"
        # shellcheck disable=SC2046
        stop_parts $(node_names) slurmctld
    fi
    check_ports
    edit_hosts add
    start_everything
    wait_for 60 "$nodes nodes that take jobs" nodes_are 'idle|mixed|allocated|completing'
    say "up in $((SECONDS - began)) s, $nodes nodes; use: eval \"\$(SLURM_DEV_DIR=$directory $here/${0##*/} env)\""
}
cancel_jobs() { client squeue -h -o %A | sort -u | client xargs -r scancel --quiet || true; }
restore() {
    local part
    for part in $(parts); do signal_part CONT "$part"; done
    start_everything
    cancel_jobs
    client sinfo -h -N -p gpu -t down,drain -o %N | sort -u |
        xargs -r -I{} env SLURM_CONF="$etc/slurm.conf" scontrol update nodename={} state=resume
    wait_for 60 "$nodes idle nodes" nodes_are idle
    # shellcheck disable=SC2046
    kill_trees $(job_processes)
}
no_steps() { [ -z "$(our_processes 'slurmstepd*')" ]; }
down() {
    local part tries
    for part in $(parts); do signal_part CONT "$part"; done
    if is_alive slurmctld && is_alive munged; then
        cancel_jobs
        for ((tries = 80; tries > 0; tries--)); do no_steps && break; sleep 0.1; done
    fi
    # shellcheck disable=SC2046
    kill_trees $(our_processes 'slurmstepd*') $(job_processes)
    # shellcheck disable=SC2046
    stop_parts $(node_names) slurmctld
    stop_parts slurmdbd
    stop_parts mariadbd
    stop_parts munged
    # shellcheck disable=SC2046
    kill_trees $(our_processes munged mariadbd slurmdbd slurmctld slurmd 'slurmstepd*')
    edit_hosts remove
    say "down"
}
status() {
    local part pid memory total=0 code=0
    for part in $(parts); do
        if pid=$(pid_of "$part"); then
            memory=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
            total=$((total + memory))
            printf '%-10s up    pid %-7s %6d KiB\n' "$part" "$pid" "$memory"
        else
            printf '%-10s DOWN\n' "$part"
            code=3
        fi
    done
    printf 'resident   %d MiB\n' $((total / 1024))
    client sinfo -o '%P %a %l %D %T %N %G' || code=3
    return $code
}
crash() { # NODE
    local pid file
    signal_part KILL "$1"
    rm -f "$(pid_file "$1")"
    for pid in $(our_processes 'slurmstepd*'); do
        # A step daemon keeps the log of its node's slurmd open, and nothing else tells the node.
        for file in "/proc/$pid/fd"/*; do
            [ "$(readlink "$file")" != "$log/slurmd-$1.log" ] || { kill_trees "$pid"; break; }
        done
    done
    # shellcheck disable=SC2046
    kill_trees $(job_processes "$1")
    rm -f "$spool/$1/$1"_*.*
    client scontrol update nodename="$1" state=down reason="crashed by slurm-dev"
}
need_part() {
    grep -qxF -- "${1:-}" <<<"$(parts)" || die "'${1:-}' is no part of this cluster, which has: $(parts | paste -sd' ')"
}
own_directory() { [ -O "$directory" ] || die "$directory belongs to another user; choose another with SLURM_DEV_DIR"; }
use_cluster() {
    [ -r "$etc/settings" ] || die "there is no cluster in $directory; start one: $0 up"
    own_directory
    # shellcheck disable=SC1091
    . "$etc/settings"
}

case ${1:-} in
missing) missing=$(packages_missing); [ -z "$missing" ] || { echo "$missing"; exit 1; } ;;
install) install_packages ;;
up) mkdir -p "$directory" && own_directory && with_lock up ;;
down) [ ! -r "$etc/settings" ] || { use_cluster && with_lock down; }
    [ "${2:-}" != --purge ] || rm -rf "${directory:?}" ;;
env) use_cluster && cat "$etc/env.sh" ;;
status) use_cluster && status ;;
restore) use_cluster && with_lock restore ;;
start) use_cluster && need_part "${2:-}" && start_part "$2" ;;
stop) use_cluster && need_part "${2:-}" && stop_parts "$2" ;;
pause) use_cluster && need_part "${2:-}" && signal_part STOP "$2" ;;
resume) use_cluster && need_part "${2:-}" && signal_part CONT "$2" ;;
crash) use_cluster && need_part "${2:-}" && crash "$2" ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit 2 ;;
esac
