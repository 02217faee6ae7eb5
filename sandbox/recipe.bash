# SPDX-License-Identifier: GPL-2.0-only
#
# Makes a sandbox root in an empty folder: the recipe. A change to this file, or to those named
# in recipe_files, makes a new root necessary. Sourced after common.bash and host.bash.

readonly SUITE=trixie

recipe_files() {
    printf '%s\n' "$SANDBOX_DIR"/{recipe.bash,packages.list,install-kernels,rust-metadata,kernel-choice}
}

recipe_packages() {
    sed -e 's/#.*//' "$SANDBOX_DIR/packages.list" | tr -s ' \n' ',' | sed -e 's/^,//' -e 's/,$//'
}

# make_root FOLDER: FOLDER is made, and is complete if this succeeds.
make_root() {
    local folder=$1 mirror line
    local -a options=() sources=()

    mirror=$(archive_mirror)
    while IFS= read -r line; do
        [[ -z $line ]] || options+=(--aptopt="$line")
    done < <(archive_settings)
    # Without a known mirror mmdebstrap takes its own; install-kernels adds the backports of it.
    [[ -z $mirror ]] ||
        sources=("deb $mirror $SUITE main" "deb $mirror $SUITE-backports main")

    # Mode root also without root: this is then the root of a user namespace (in_namespace), the
    # very one that all later commands run in, so that file owners mean the same to all of them.
    step "Debian $SUITE with the toolchains (2 to 4 minutes)" \
        in_namespace env TMPDIR=/tmp mmdebstrap --mode=root --variant=minbase --format=directory \
        --include="$(recipe_packages)" \
        --aptopt='APT::Install-Recommends "false";' \
        --aptopt='APT::Sandbox::User "root";' \
        --dpkgopt='force-unsafe-io' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --skip=cleanup/apt/lists,check/empty \
        "${options[@]}" "$SUITE" "$folder" "${sources[@]}" ||
        return

    # Where the checkout, a shared folder and the recipe's scripts are mounted.
    in_namespace mkdir -p "$folder"/{checkout,share,recipe} || return
    step "kernels of $SUITE-backports" in_new_root "$folder" /recipe/install-kernels || return
    local kernel current=''
    local -a kernels
    mapfile -t kernels <"$folder/etc/fault-tracer/kernels"
    for kernel in "${kernels[@]}"; do
        if step "Rust metadata of $kernel (2 to 5 minutes)" \
            in_new_root "$folder" /recipe/rust-metadata "$kernel"; then
            current=${current:-$kernel}
        elif [[ -z $current ]]; then
            return 1
        else
            # The tests name a series that the README promises and the sandbox has not.
            say "  $kernel cannot be used here: the sandbox goes without it"
            in_namespace sed -i "/^$kernel\$/d" "$folder/etc/fault-tracer/kernels" || return
        fi
    done
}

in_new_root() {
    local folder=$1
    shift
    in_namespace bash -- "$SANDBOX_DIR/enter" --root "$folder" --network \
        --bind-to "$SANDBOX_DIR" /recipe -- "$@"
}
