# SPDX-License-Identifier: GPL-2.0-only
#
# What the sandbox takes from the host: two or three packages, and the way to the Debian archive.
# Sourced after common.bash.

# Installs what is missing where that is possible without asking, else says how to.
require_host_packages() {
    local -a missing=()
    local program
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    is_root || command -v newuidmap >/dev/null || missing+=(uidmap)
    [[ -e $(archive_keyring) ]] || missing+=(debian-archive-keyring)
    for program in unshare flock; do
        command -v "$program" >/dev/null || missing+=(util-linux)
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        die "this machine lacks ${missing[*]}, and has no apt-get: install them by its own means"
    if ! is_root; then
        say "${PROGRAM:-sandbox}: error: this machine lacks ${missing[*]}. As root run:"
        say "    apt-get install --no-install-recommends ${missing[*]}"
        exit 1
    fi
    step "installing ${missing[*]} on this machine" install_host_packages "${missing[@]}" ||
        die "could not install ${missing[*]}; see above"
}

install_host_packages() {
    export DEBIAN_FRONTEND=noninteractive
    # The lists of a fresh machine may be empty or old: only then is an update worth its time.
    apt-get install -y --no-install-recommends "$@" && return
    apt-get update
    apt-get install -y --no-install-recommends "$@"
}

archive_keyring() {
    printf '%s' /usr/share/keyrings/debian-archive-keyring.gpg
}

# The archive that this machine's own apt uses, so that a local mirror is used here too.
# Empty if there is none to be known (then mmdebstrap has a default).
archive_mirror() {
    if [[ -n ${FAULT_TRACER_MIRROR-} ]]; then
        printf '%s' "$FAULT_TRACER_MIRROR"
        return
    fi
    command -v apt-get >/dev/null || return 0
    # Label and not only Origin: the security archive has the same origin.
    # shellcheck disable=SC2016  # for apt-get to expand
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CREATED_BY)|$(REPO_URI)' 2>/dev/null |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "Packages" && $4 ~ /^https?:/ {
            sub("/$", "", $4); print $4; exit }'
}

# The host's apt settings on how to reach an archive, one per line in apt.conf's syntax.
archive_settings() {
    command -v apt-config >/dev/null || return 0
    apt-config dump --format '%f "%v";%n' 2>/dev/null |
        grep -iE '^Acquire::((https?|ftp)::(.*::)?Proxy|Check-(Date|Valid-Until)) ' || true
}
