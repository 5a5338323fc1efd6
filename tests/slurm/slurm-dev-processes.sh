# shellcheck shell=bash
# Finding, signalling and stopping the processes of one cluster. slurm-dev-cluster.sh sources this and owns its
# variables.
# shellcheck disable=SC2154

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
job_processes() { # [NODE]: told by their environment, since a job's child may outlive its step daemon
    grep -lsxzF -- "SLURM_CONF=$etc/slurm.conf" /proc/[0-9]*/environ |
        xargs -r grep -lsxz -- "SLURMD_NODENAME=${1:-.*}" | sed 's|/proc/\([0-9]*\)/.*|\1|' || true
}
