# SPDX-License-Identifier: GPL-2.0-only
#
# scripts/vm build: runs a command with the sandbox root's compilers on the checkout. Sourced after
# common.bash and namespace.bash.

# Variables that say something to a build; others belong to the host, and would mislead.
build_environment() {
    local name
    while IFS= read -r name; do
        case $name in
        CARGO_HOME | CARGO_TARGET_DIR | RUSTUP_* | RUSTC | RUSTDOC | RUSTC_WRAPPER) ;;
        CARGO_* | RUST* | PROPTEST_* | LOOM_* | FAULT_TRACER_* | MAKEFLAGS | MAKELEVEL | KDIR | V | CI | NO_COLOR | SOURCE_DATE_EPOCH)
            printf '%s=%s\0' "$name" "${!name}"
            ;;
        esac
    done < <(compgen -e)
}

build_in_root() {
    local -a options=()
    local variable cargo_home=$CACHE/cargo
    mkdir -p -- "$cargo_home"
    # How the host's cargo reaches the registry (a mirror, a proxy) holds here too.
    local host_config=${CARGO_HOME:-$HOME/.cargo}/config.toml
    while IFS= read -r -d '' variable; do
        options+=(--setenv "$variable")
    done < <(build_environment)
    options+=(--setenv "CARGO_HOME=$cargo_home" --bind "$cargo_home" --bind "$CHECKOUT")
    if [[ -e $host_config ]]; then
        : >>"$cargo_home/config.toml"
        options+=(--bind-to "$host_config" "$cargo_home/config.toml")
    fi
    # A folder outside the checkout is not there in the root.
    if [[ $PWD/ == "$CHECKOUT"/* ]]; then
        options+=(--cwd "$PWD")
    else
        options+=(--cwd "$CHECKOUT")
    fi
    in_root --network "${options[@]}" -- "$@"
}
