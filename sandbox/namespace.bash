# SPDX-License-Identifier: GPL-2.0-only
#
# Runs commands with the sandbox root as `/`, in namespaces of their own: no mount is ever visible
# outside, and all processes end with the command. Sourced after common.bash.

# Without root, a user namespace stands in: the caller is its root, and the other ids come from
# the caller's ranges in /etc/subuid and /etc/subgid.
namespace_flags() {
    printf '%s\n' --mount --propagation private --pid --fork --kill-child
    is_root || printf '%s\n' --user --map-root-user --map-auto
}

# in_namespace COMMAND…: COMMAND sees the host's files, but mounts what it likes unseen.
# It returns COMMAND's status; a signal to this shell ends COMMAND and everything below it.
in_namespace() {
    local -a flags
    local child status terminated=''
    mapfile -t flags < <(namespace_flags)
    # In the background, because a trap does not run while bash waits for a foreground command;
    # `<&0` keeps the standard input that background commands otherwise lose.
    # Should this shell be killed, nothing of COMMAND is left behind. And Ctrl-C, which background
    # commands are made to ignore, is COMMAND's to act on.
    env --default-signal=INT,QUIT setpriv --pdeathsig KILL unshare "${flags[@]}" -- bash -- "$SANDBOX_DIR/namespace-init" "$@" <&0 &
    child=$!
    # shellcheck disable=SC2064  # the child's id as it is now
    trap "terminated=1; kill -KILL $child 2>/dev/null" TERM HUP
    # Ctrl-C reaches the command itself, which is of the same process group; wait for its end.
    trap : INT
    while
        status=0
        wait "$child" 2>/dev/null || status=$?
        kill -0 "$child" 2>/dev/null
    do :; done
    trap - TERM HUP INT
    [[ -z $terminated ]] || exit 143
    return "$status"
}

# in_root [ENTER-OPTION…] -- COMMAND…: COMMAND runs with the sandbox root as `/` (see `enter`).
in_root() {
    in_namespace bash -- "$SANDBOX_DIR/enter" --root "$ROOT" "$@"
}

# Fails with advice where the kernel or the account does not allow the namespaces.
require_namespaces() {
    local -a flags
    local message
    if ! is_root; then
        local user
        user=$(id -un)
        command -v newuidmap >/dev/null ||
            die "without root the sandbox needs newuidmap. As root run: apt-get install uidmap"
        if ! { grep -q "^$user:" /etc/subuid && grep -q "^$user:" /etc/subgid; } 2>/dev/null; then
            die "without root the sandbox needs ranges of subordinate ids for $user. As root run:" \
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
        fi
    fi
    mapfile -t flags < <(namespace_flags)
    if ! message=$(unshare "${flags[@]}" -- mount -t tmpfs none /mnt 2>&1); then
        say "$message"
        die "cannot make a mount namespace here. In a container, run it privileged;" \
            "without root, the kernel must allow user namespaces (sysctl user.max_user_namespaces)"
    fi
}
