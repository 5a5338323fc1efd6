# shellcheck shell=bash
# How each daemon is started and the accounts are made. slurm-dev-cluster.sh sources this and owns its variables.
# shellcheck disable=SC2154

as() { # USER COMMAND...
    local user=$1; shift
    if is_root; then setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"; else "$@"; fi
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
    [ "$accounting" = dbd ] || return 0
    local users=root,$me${SLURM_DEV_USERS:+,$SLURM_DEV_USERS}
    [ "$users" != "$(cat "$etc/accounts" 2>/dev/null)" ] || return 0
    wait_for 20 "the accounts of $users" add_accounts "$users"
    echo "$users" >"$etc/accounts"
}
add_accounts() { # USERS: there already or not
    add_to_accounting cluster dev
    add_to_accounting qos short Priority=100 MaxWall=00:30:00 MaxSubmitJobsPerUser=4 GrpTRES=gres/gpu=16 \
        Flags=DenyOnLimit
    add_to_accounting account demo,other Description=demo Organization=demo Cluster=dev
    add_to_accounting user "$1" Account=demo DefaultAccount=demo QOS=normal,short DefaultQOS=normal Cluster=dev
    client sacctmgr -nP show associations where cluster=dev account=demo user="$me" format=qos | grep -qx normal,short
}
add_to_accounting() { client sacctmgr -i -Q add "$@" >>"$log/start.log" 2>&1 || true; }
