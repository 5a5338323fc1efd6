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

# shellcheck source-path=SCRIPTDIR source=slurm-dev-conf.sh
. "$here/slurm-dev-conf.sh"

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
as() { # USER COMMAND...
    local user=$1; shift
    if is_root; then setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"; else "$@"; fi
}
client() { SLURM_CONF=$etc/slurm.conf timeout 20 "$@"; }
wait_for() { # SECONDS DESCRIPTION COMMAND...
    local tries=$(($1 * 10)) what=$2; shift 2
    while ! "$@" >/dev/null 2>&1; do
        [ $((tries--)) -gt 0 ] || die_with_logs "waited in vain for $what"
        sleep 0.1
    done
}

# ---------------------------------------------------------------- packages
packages_missing() {
    local pair
    for pair in slurm-client:sinfo slurmctld:slurmctld slurmd:slurmd munge:munged \
        slurmdbd:slurmdbd mariadb-server:mariadbd mariadb-client:mariadb-admin; do
        command -v "${pair#*:}" >/dev/null || echo "${pair%%:*}"
    done
    compgen -G '/usr/lib*/slurm*/accounting_storage_mysql.so' >/dev/null ||
        compgen -G '/usr/lib/*/slurm*/accounting_storage_mysql.so' >/dev/null || echo slurm-wlm-mysql-plugin
}
install_packages() {
    local missing policy=/usr/sbin/policy-rc.d
    mapfile -t missing < <(packages_missing)
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "SLURM is not installed, and there is no apt-get to install it with."
    if ! is_root; then
        sudo -n true 2>/dev/null || die "SLURM is not installed. As root: apt-get install ${missing[*]}"
        exec sudo -n "$here/${0##*/}" install
    fi
    say "installing ${missing[*]}"
    # The packages' own daemons are not wanted.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt_get install "${missing[@]}" || { apt_get update && apt_get install "${missing[@]}"; } ||
        die "apt-get could not install them: $(tail -n 3 <<<"$apt_output")"
}
apt_get() { # sets apt_output
    apt_output=$(DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" 2>&1)
}

# ---------------------------------------------------------------- daemons
pid_file() {
    case $1 in
    munged) echo "$run/munge/munged.pid" ;;
    mariadbd) echo "$run/db/mariadbd.pid" ;;
    slurmdbd | slurmctld) echo "$run/slurm/$1.pid" ;;
    *) echo "$run/slurmd-$1.pid" ;;
    esac
}
names_our_directory() { grep -qaF -- "$directory/" "/proc/$1/cmdline" "/proc/$1/environ" 2>/dev/null; }
pid_of() { # PART: the number of its process, or failure; a stale or recycled number is not believed
    local pid name state
    pid=$(tr -dc 0-9 2>/dev/null <"$(pid_file "$1")") && [ -n "$pid" ] || return 1
    read -r name 2>/dev/null <"/proc/$pid/comm" || return 1
    [ "$name" = "${1/node*/slurmd}" ] || return 1
    state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
    [ "$state" != Z ] && names_our_directory "$pid" || return 1
    echo "$pid"
}
is_alive() { pid_of "$1" >/dev/null; }
is_gone() { ! is_alive "$1"; }
signal_part() { # SIGNAL PART
    local pid
    pid=$(pid_of "$2") || return 0
    kill "-$1" "$pid" 2>/dev/null || true
}
stop_parts() { # PART...: all at once
    local part tries
    for part; do signal_part TERM "$part"; signal_part CONT "$part"; done
    for part; do
        for ((tries = 300; tries > 0; tries--)); do is_alive "$part" || break; sleep 0.1; done
        signal_part KILL "$part"
        rm -f "$(pid_file "$part")"
    done
}
our_processes() { # NAME-PATTERN...: daemons of this cluster, also those that have lost their pid file
    local folder name pattern
    for folder in /proc/[0-9]*; do
        read -r name 2>/dev/null <"$folder/comm" || continue
        for pattern; do
            # shellcheck disable=SC2053
            if [[ $name == $pattern ]] && names_our_directory "${folder#/proc/}"; then echo "${folder#/proc/}"; fi
        done
    done
}
descendants() {
    local children child
    read -ra children < <(cat "/proc/$1"/task/*/children 2>/dev/null | paste -sd' ')
    for child in "${children[@]}"; do descendants "$child"; echo "$child"; done
}
kill_trees() {
    local pid
    for pid; do
        # shellcheck disable=SC2046
        kill -KILL $(descendants "$pid") "$pid" 2>/dev/null || true
    done
}

start_munged() {
    is_alive munged && return
    rm -f "$munge_socket" "$munge_socket.lock"
    as "$munge_user" munged --key-file="$directory/munge/munge.key" --socket="$munge_socket" \
        --pid-file="$(pid_file munged)" --log-file="$log/munge/munged.log" --seed-file="$directory/munge/munged.seed" \
        </dev/null >>"$log/start.log" 2>&1 || die_with_logs "munged did not start"
    wait_for 10 munged munge -S "$munge_socket" -n
}
start_mariadbd() {
    is_alive mariadbd && return
    local files=(--no-defaults --datadir="$directory/mysql") log_size=--innodb-log-file-size=16M
    is_root && files+=(--user="$database_user")
    if [ ! -d "$directory/mysql/mysql" ]; then
        rm -rf "$directory/mysql"
        install -d -m 700 "$directory/mysql"
        is_root && chown "$database_user" "$directory/mysql"
        mariadb-install-db "${files[@]}" --auth-root-authentication-method=normal --skip-test-db $log_size \
            </dev/null >"$log/mariadb-install.log" 2>&1 || die_with_logs "mariadb-install-db failed"
    fi
    setsid mariadbd "${files[@]}" --socket="$database_socket" --pid-file="$(pid_file mariadbd)" \
        --port="$(port_of mariadbd)" --bind-address=127.0.0.1 --skip-name-resolve $log_size \
        --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 \
        --performance-schema=OFF --max-allowed-packet=16M </dev/null >>"$log/mariadbd.log" 2>&1 &
    wait_for 60 mariadbd mariadb-admin --no-defaults -S "$database_socket" -u root ping
    mariadb --no-defaults -S "$database_socket" -u root -e "create database if not exists slurm_acct_db;
        create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
        grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';"
}
start_slurmdbd() {
    is_alive slurmdbd && return
    # It reads the slurmdbd.conf that lies beside the file SLURM_CONF names.
    as "$slurm_user" env SLURM_CONF="$etc/slurm.conf" slurmdbd </dev/null >>"$log/start.log" 2>&1 ||
        die_with_logs "slurmdbd did not start"
    wait_for 60 slurmdbd port_is_open "$(port_of slurmdbd)"
}
port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
start_slurmctld() {
    is_alive slurmctld && return
    SLURM_CONF=$etc/slurm.conf slurmctld -f "$etc/slurm.conf" </dev/null >>"$log/start.log" 2>&1 ||
        die_with_logs "slurmctld did not start"
    wait_for 30 slurmctld client scontrol ping
}
start_node() { # NAME
    is_alive "$1" && return
    local within=()
    # shellcheck disable=SC2016
    [ "$own_host_names" = 1 ] && within=(unshare --uts -- sh -c 'hostname "$0"; exec "$@"' "$1")
    SLURM_CONF=$etc/slurm.conf "${within[@]}" slurmd -N "$1" -f "$etc/slurm.conf" \
        </dev/null >>"$log/start.log" 2>&1 || die_with_logs "slurmd of $1 did not start"
    wait_for 10 "the slurmd of $1" is_alive "$1"
}
port_of() { # PART
    case $1 in
    slurmctld) echo "$port_base" ;;
    slurmdbd) echo $((port_base + 1)) ;;
    mariadbd) echo $((port_base + 2)) ;;
    node*) echo $((port_base + 10 + ${1#node})) ;;
    esac
}
check_ports() { # before anything answers from there that is not ours
    local part port
    for part in $(parts); do
        port=$(port_of "$part")
        if [ -n "$port" ] && is_gone "$part" && port_is_open "$port"; then
            die "port $port is taken by another program; choose others with SLURM_DEV_PORT_BASE (now $port_base)"
        fi
    done
}
start_part() {
    case $1 in
    node*) start_node "$1" ;;
    *) "start_$1" ;;
    esac
}
make_accounts() {
    [ "$accounting" = dbd ] && [ ! -e "$etc/accounts" ] || return 0
    local users user_names=${SLURM_DEV_USERS:-}
    users=$(printf '%s\n' root "$me" "${user_names//,/$'\n'}" | sed '/^$/d' | sort -u | paste -sd,)
    manage_accounts cluster dev
    manage_accounts qos short Priority=100 MaxWall=00:30:00 MaxSubmitJobsPerUser=4 GrpTRES=gres/gpu=16 Flags=DenyOnLimit
    manage_accounts account demo,other Description=demo Organization=demo Cluster=dev
    manage_accounts user "$users" Account=demo DefaultAccount=demo QOS=normal,short DefaultQOS=normal Cluster=dev
    touch "$etc/accounts"
}
# sacctmgr fails when there is nothing to add; slurmctld has added the cluster by itself by then, or has not.
manage_accounts() { client sacctmgr -i -Q add "$@" >>"$log/start.log" 2>&1 || true; }

# ---------------------------------------------------------------- host names
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

# ---------------------------------------------------------------- verbs
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
    case $accounting in dbd | filetxt | none) ;; *) die "SLURM_DEV_ACCOUNTING is '$accounting', not dbd, filetxt or none" ;; esac
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
    kill_trees $(our_processes 'slurmstepd*')
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
    rm -f "$spool/$1/$1"_*.*
    client scontrol update nodename="$1" state=down reason="crashed by slurm-dev"
}
need_part() {
    grep -qxF -- "${1:-}" <<<"$(parts)" || die "'${1:-}' is no part of this cluster; take one of: $(parts | paste -sd' ')"
}
use_cluster() {
    [ -r "$etc/settings" ] || die "there is no cluster in $directory; start one: $0 up"
    # shellcheck disable=SC1091
    . "$etc/settings"
}

case ${1:-} in
missing) missing=$(packages_missing); [ -z "$missing" ] || { echo "$missing"; exit 1; } ;;
install) install_packages ;;
up) mkdir -p "$directory" && with_lock up ;;
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
