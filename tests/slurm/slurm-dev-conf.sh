# shellcheck shell=bash
# The configuration files of a cluster. slurm-dev-cluster.sh sources this and owns its variables.
# shellcheck disable=SC2034,SC2154

write_configuration() { # sets configuration_changed
    : "${own_host_names:=$(can_name_hosts && echo 1 || echo 0)}"
    make_directories
    make_munge_key
    write_gpus
    [ "$accounting" != dbd ] || write_slurmdbd_conf
    # Named, because slurmd looks for a mounted cgroup file system otherwise, although nothing here uses one.
    echo 'CgroupPlugin=cgroup/v1' >"$etc/cgroup.conf"
    printf 'export SLURM_CONF=%q SLURM_DEV_DIR=%q MUNGE_SOCKET=%q\n' \
        "$etc/slurm.conf" "$directory" "$munge_socket" >"$etc/env.sh"
    # The other verbs follow the last `up`.
    declare -p nodes accounting port_base own_host_names | sed 's/^declare -[^ ]* //' >"$etc/settings"
    slurm_conf >"$etc/slurm.conf.new"
    configuration_changed=0
    cmp -s "$etc/slurm.conf.new" "$etc/slurm.conf" || configuration_changed=1
    mv "$etc/slurm.conf.new" "$etc/slurm.conf"
}

can_name_hosts() { is_root && unshare --uts -- hostname node1 2>/dev/null; }

make_directories() {
    local name
    install -d -m 755 "$directory" "$etc" "$run"/{,munge,slurm,db} "$log"/{,munge,slurm} "$directory"/{state,munge,dev}
    for name in $(node_names); do install -d -m 755 "$spool" "$spool/$name"; done
    is_root || return 0
    chown "$munge_user" "$run/munge" "$log/munge" "$directory/munge"
    chown "$slurm_user" "$run/slurm" "$log/slurm" "$directory/state"
    [ "$accounting" != dbd ] || chown "$database_user" "$run/db"
}

make_munge_key() {
    local key=$directory/munge/munge.key
    [ ! -s "$key" ] || return 0
    (umask 077; head -c 1024 /dev/urandom >"$key")
    ! is_root || chown "$munge_user" "$key"
}

# slurmd wants character devices, which an ordinary user cannot make: each GPU is a link to /dev/null.
write_gpus() {
    local gpus=${SLURM_DEV_GPUS:-8} number
    echo 'AutoDetect=off' >"$etc/gres.conf"
    for ((number = 0; number < gpus; number++)); do
        ln -sfn /dev/null "$directory/dev/nvidia$number"
        echo "Name=gpu Type=h100 File=$directory/dev/nvidia$number" >>"$etc/gres.conf"
    done
}

write_slurmdbd_conf() {
    (umask 077; cat >"$etc/slurmdbd.conf") <<EOF
AuthType=auth/munge
AuthInfo=socket=$munge_socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$(port_of slurmdbd)
SlurmUser=$slurm_user
DebugLevel=info
LogFile=$log/slurm/slurmdbd.log
PidFile=$run/slurm/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$(port_of mariadbd)
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
EOF
    ! is_root || chown "$slurm_user" "$etc/slurmdbd.conf"
}

accounting_conf() {
    local enforce=${SLURM_DEV_ENFORCE-associations,limits,qos}
    case $accounting in
    # A private munge socket must be named for slurmdbd once more: AuthInfo does not reach it.
    dbd)
        cat <<EOF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$(port_of slurmdbd)
AccountingStoragePass=socket=$munge_socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment,job_env,job_script
JobCompType=jobcomp/none
EOF
        [ -z "$enforce" ] || echo "AccountingStorageEnforce=$enforce"
        ;;
    filetxt)
        echo 'AccountingStorageType=accounting_storage/none'
        printf 'JobCompType=jobcomp/filetxt\nJobCompLoc=%s\n' "$log/slurm/jobcomp.txt"
        ;;
    none) printf 'AccountingStorageType=accounting_storage/none\nJobCompType=jobcomp/none\n' ;;
    esac
}

node_conf() {
    local cpus=${SLURM_DEV_CPUS:-16} gpus=${SLURM_DEV_GPUS:-8} host=${HOSTNAME%%.*} range="node[1-$nodes]"
    [ "$own_host_names" = 0 ] || host=$range
    [ "$gpus" = 0 ] || echo 'GresTypes=gpu'
    echo "NodeName=$range NodeHostname=$host NodeAddr=127.0.0.1 Port=[$(port_of node1)-$(port_of "node$nodes")]" \
        "CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1" \
        "RealMemory=${SLURM_DEV_MEM:-65536} $([ "$gpus" = 0 ] || echo "Gres=gpu:h100:$gpus") State=UNKNOWN"
}

# Without cgroups and task binding it runs in any container. cred_expire is how long a requeued job waits before it
# starts again: 120 s if left alone.
slurm_conf() {
    cat <<EOF
ClusterName=dev
SlurmctldHost=${HOSTNAME%%.*}(127.0.0.1)
SlurmctldPort=$(port_of slurmctld)
SlurmUser=$slurm_user
SlurmdUser=$me
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$munge_socket,cred_expire=10
StateSaveLocation=$directory/state
SlurmdSpoolDir=$spool/%n
SlurmctldPidFile=$run/slurm/slurmctld.pid
SlurmdPidFile=$run/slurmd-%n.pid
SlurmctldLogFile=$log/slurm/slurmctld.log
SlurmdLogFile=$log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
PropagateResourceLimits=NONE
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
MessageTimeout=10
TCPTimeout=2
InactiveLimit=0
OverTimeLimit=0
KillWait=${SLURM_DEV_KILL_WAIT:-15}
MinJobAge=300
UnkillableStepTimeout=20
CompleteWait=0
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=3,sched_interval=3,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=512
PriorityType=priority/multifactor
PriorityWeightAge=1000
PriorityWeightFairshare=10000
PriorityWeightJobSize=1000
PriorityWeightPartition=1000
PriorityWeightQOS=2000
$([ "${SLURM_DEV_KILL_INVALID_DEPEND:-0}" = 0 ] || echo DependencyParameters=kill_invalid_depend)
$(accounting_conf)
$(node_conf)
PartitionName=gpu   Nodes=ALL Default=YES MaxTime=2-00:00:00 DefaultTime=01:00:00 State=UP PriorityJobFactor=10
PartitionName=debug Nodes=node1 MaxTime=00:10:00 DefaultTime=00:05:00 MaxNodes=1 State=UP PriorityJobFactor=100
PartitionName=drain Nodes=node1 MaxTime=01:00:00 State=DRAIN
${SLURM_DEV_EXTRA_CONF:-}
EOF
}
