# shellcheck shell=bash
# The packages that a cluster needs. slurm-dev-cluster.sh sources this and owns its variables.
# shellcheck disable=SC2154

packages_missing() {
    local pair
    for pair in slurm-client:sinfo slurmctld:slurmctld slurmd:slurmd munge:munged \
        slurmdbd:slurmdbd mariadb-server:mariadbd mariadb-client:mariadb-admin tmux:tmux; do
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
    local options=(-y -q --no-install-recommends -o DPkg::Lock::Timeout=120)
    apt_output=$(DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" "$@" 2>&1)
}
