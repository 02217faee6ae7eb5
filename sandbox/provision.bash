# SPDX-License-Identifier: GPL-2.0-only
#
# Keeps the sandbox root: makes it when there is none, and again when it is out of date. A root is
# made in a folder of another name and renamed when complete, so one that exists is whole. Sourced
# after common.bash, namespace.bash, host.bash and recipe.bash.

readonly LOCK=$CACHE/lock
# Kernels that were added to those of the recipe.
readonly MORE=$ROOT/etc/fault-tracer/more-kernels
# Those of arm64, which were added.
readonly ARM64=$ROOT/etc/fault-tracer/arm64-kernels
readonly STAMP=$ROOT/etc/fault-tracer/recipe
readonly CHECKED=$CACHE/checked
readonly STEP_LOG=$LOGS/provision.log

recipe_hash() {
    local -a files
    mapfile -t files < <(recipe_files)
    cat -- "${files[@]}" | sha256sum | cut -d' ' -f1
}

# prepare_root: on return the root is there and up to date, and a shared lock keeps it there for
# as long as this shell and its children live.
prepare_root() {
    mkdir -p -- "$CACHE" "$LOGS"
    exec {lock_fd}>>"$LOCK"
    flock --shared "$lock_fd"
    local reason
    reason=$(reason_to_provision)
    [[ -n $reason ]] || return 0

    if ! flock --exclusive --nonblock "$lock_fd"; then
        say "$PROGRAM: waiting for the others that use the sandbox root ($CACHE) …"
        flock --exclusive "$lock_fd"
    fi
    # Someone else may have made it in the meantime.
    reason=$(reason_to_provision)
    if [[ -n $reason ]]; then
        provision "$reason"
    fi
    flock --shared "$lock_fd"
}

# Prints why the root must be made; nothing if it is good.
reason_to_provision() {
    if [[ ! -e $STAMP ]]; then
        echo "there is none yet"
    elif [[ $(<"$STAMP") != "$(recipe_hash)" ]]; then
        echo "its recipe has changed"
    elif kernels_outdated; then
        echo "the suite has a new kernel"
    fi
}

# Asks the archive at most once a day. Not being able to ask is no reason for anything: the
# sandbox works without a network.
kernels_outdated() {
    local now
    [[ -z $(find "$CHECKED" -mtime -1 2>/dev/null) ]] || return 1
    : >"$CHECKED"
    say "  asking the Debian archive for a newer kernel …"
    # shellcheck disable=SC2016  # for the inner shell to expand
    now=$(timeout --kill-after=5 40 bash -c '
        for file in common namespace; do source "$1/$file.bash"; done
        in_root --network --bind-to "$1" /recipe -- /recipe/newest-kernels
        ' bash "$SANDBOX_DIR" 2>>"$STEP_LOG" </dev/null) || return 1
    [[ -n $now && $now != "$(<"$ROOT/etc/fault-tracer/chosen")" ]]
}

provision() {
    local new=$CACHE/root.new old=$CACHE/root.old hash
    # Before anything is read for it: an edit from here on makes another recipe.
    hash=$(recipe_hash)
    : >"$STEP_LOG"
    require_host_packages
    require_namespaces
    say "Making the sandbox root in $CACHE, because $1. Log: $STEP_LOG"
    # What an interrupted run left.
    remove_folder "$new"
    remove_folder "$old"
    if ! make_root "$new"; then
        remove_folder "$new"
        if [[ $1 == *"new kernel"* ]]; then
            say "$PROGRAM: warning: could not renew the sandbox root; going on with the one there is"
            return 0
        fi
        die "the sandbox root could not be made; the whole log is $STEP_LOG." \
            "(Without a network? FAULT_TRACER_MIRROR names another Debian archive.)"
    fi
    # shellcheck disable=SC2016  # for the inner shell to expand
    in_namespace bash -c 'printf "%s\n" "$1" >"$2/etc/fault-tracer/recipe"' bash \
        "$hash" "$new" || die "cannot write to $new"
    if [[ -e $ROOT ]]; then
        mv -T -- "$ROOT" "$old"
    fi
    mv -T -- "$new" "$ROOT"
    : >"$CHECKED"
    remove_folder "$old"
    say "The sandbox root is ready: $(du -sh --one-file-system "$ROOT" 2>/dev/null | cut -f1)," \
        "kernels $(paste -sd' ' "$ROOT/etc/fault-tracer/kernels")"
}

# add_kernels FLAVOUR…: puts the suite's current kernels of these flavours into the root, beside those of the recipe.
add_kernels() {
    local flavour release
    prepare_root
    flock --exclusive "$lock_fd"
    for flavour in "$@"; do
        if [[ $flavour == debug ]]; then
            add_debug_kernel
            continue
        elif [[ $flavour == arm64 ]]; then
            add_arm64
            continue
        fi
        if grep -q -- "-$flavour-" "$MORE" 2>/dev/null; then
            continue
        fi
        release=$(in_new_root "$ROOT" /recipe/install-kernels "$flavour" 2>>"$STEP_LOG") ||
            die "the suite's kernel of the flavour $flavour cannot be installed; the whole log is $STEP_LOG"
        step "Rust metadata of $release (2 to 9 minutes)" in_new_root "$ROOT" /recipe/rust-metadata "$release" ||
            die "$release has no Rust metadata that fits; the whole log is $STEP_LOG"
        # shellcheck disable=SC2016  # for the inner shell to expand
        in_namespace bash -c 'printf "%s\n" "$1" >>"$2"' bash "$release" "$MORE"
    done
    flock --shared "$lock_fd"
}

# Builds the kernel that looks for mistakes, unless it is there, and lists it last.
add_debug_kernel() {
    step "a kernel that looks for mistakes (20 to 60 minutes, if it is not there)" \
        in_new_root "$ROOT" /recipe/debug-kernel ||
        die "the debugging kernel cannot be built; the whole log is $STEP_LOG"
}

# Puts guests of arm64 into the root, unless this script has done it.
add_arm64() {
    local stamp=$ROOT/etc/fault-tracer/arm64-made-by release made_by
    local -a releases
    made_by=$(sha256sum <"$SANDBOX_DIR/install-arm64")
    [[ ! -e $stamp || $(<"$stamp") != "$made_by" ]] || return 0
    in_namespace rm -f -- "$stamp" "$ARM64" "$ARM64.new"
    # shellcheck disable=SC2016  # for the inner shell to expand
    step "arm64: compilers, emulator, kernels and their guests' root (3 to 6 minutes)" \
        in_new_root "$ROOT" bash -c '/recipe/install-arm64 packages >"$1"' bash "${ARM64#"$ROOT"}.new" ||
        die "arm64 cannot be installed; the whole log is $STEP_LOG"
    mapfile -t releases <"$ARM64.new"
    for release in "${releases[@]}"; do
        step "Rust metadata of $release (2 to 9 minutes)" in_new_root "$ROOT" /recipe/install-arm64 metadata "$release" ||
            die "$release has no Rust metadata that fits; the whole log is $STEP_LOG"
    done
    # shellcheck disable=SC2016  # for the inner shell to expand
    in_namespace bash -c 'mv "$1.new" "$1" && printf "%s\n" "$2" >"$3"' bash "$ARM64" "$made_by" "$stamp"
}

# In the namespace, because without root the files are of other user ids. A mount below the
# folder cannot be (all are made in namespaces that have ended); if one is, nothing is removed.
remove_folder() {
    [[ -e $1 ]] || return 0
    if awk -v folder="$1" '$5 == folder || index($5, folder "/") == 1 { found = 1 } END { exit !found }' \
        /proc/self/mountinfo; then
        die "something is mounted below $1: unmount it (findmnt lists it), then try again"
    fi
    step "removing $(basename "$1")" in_namespace rm -rf --one-file-system -- "$1" ||
        die "cannot remove $1"
}
