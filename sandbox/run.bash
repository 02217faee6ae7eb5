# SPDX-License-Identifier: GPL-2.0-only
#
# scripts/vm run and shell: reads the options and prepares what the guest is given. Sourced after
# common.bash and namespace.bash.

parse_guest_options() {
    local kind=$1
    shift
    local cpus=2 nodes=1 icount=''
    guest_kind=$kind guest_arch=amd64 guest_kernel='' guest_share='' guest_firmware='' guest_command=() guest_options=()
    while (($#)); do
        case $1 in
        --icount)
            guest_options+=(--icount)
            icount=1
            shift
            ;;
        --console)
            guest_options+=(--show-console)
            shift
            ;;
        --cpus | --memory | --timeout | --nodes)
            [[ ${2-} =~ ^[1-9][0-9]{0,8}$ ]] ||
                die_usage "$kind: $1 needs a whole number above 0, not '${2-}'"
            guest_options+=("$1" "$2")
            [[ $1 != --cpus ]] || cpus=$2
            [[ $1 != --nodes ]] || nodes=$2
            shift 2
            ;;
        --append)
            [[ -n ${2-} && $2 != *$'\n'* ]] ||
                die_usage "$kind: --append needs arguments for the kernel, as mitigations=off"
            guest_options+=(--append "$2")
            shift 2
            ;;
        --arch)
            [[ ${2-} == amd64 || ${2-} == arm64 ]] ||
                die_usage "$kind: --arch needs a processor, amd64 or arm64, not '${2-}'"
            guest_arch=$2
            guest_options+=(--arch "$2")
            shift 2
            ;;
        --kernel)
            [[ -n ${2-} ]] || die_usage "$kind: --kernel needs a version, as 7.2 (scripts/vm kernels lists them)"
            guest_kernel=$2
            shift 2
            ;;
        --share)
            [[ -d ${2-} ]] || die_usage "$kind: --share needs a folder; there is no folder '${2-}'"
            guest_share=$(cd -- "$2" && pwd -P)
            shift 2
            ;;
        --firmware)
            [[ -f ${2-}/code.fd && -f $2/vars.fd ]] ||
                die_usage "$kind: --firmware needs a folder with code.fd and vars.fd, as of the package ovmf"
            guest_firmware=$(cd -- "$2" && pwd -P)
            shift 2
            ;;
        --)
            shift
            guest_command=("$@")
            break
            ;;
        -*)
            die_usage "$kind: unknown option '$1' (scripts/vm --help lists them; CMD comes after --)"
            ;;
        *)
            # The first word that is no option begins the command.
            guest_command=("$@")
            break
            ;;
        esac
    done
    [[ -z $icount ]] || cpus=1
    ((nodes <= cpus)) || die_usage "$kind: --nodes $nodes needs as many processors; the guest has $cpus"
    [[ $guest_arch == amd64 || -z $guest_firmware ]] || die_usage "$kind: --firmware is for guests of amd64"
    if [[ $kind == run ]] && ((${#guest_command[@]} == 0)); then
        die_usage "run: no command. Say: scripts/vm run [OPTION]… -- CMD [ARG]…"
    elif [[ $kind == shell ]] && ((${#guest_command[@]})); then
        die_usage "shell takes no command; that is: scripts/vm run -- ${guest_command[*]}"
    elif [[ $kind == shell ]] && [[ ! -t 0 || ! -t 1 ]]; then
        die_usage "shell needs a terminal; without one use: scripts/vm run -- CMD"
    fi
}

# choose_kernel ARCH VERSION: prints the newest release in the root that begins so; no version: the current.
choose_kernel() {
    local arch=$1 wanted=$2 release chosen=''
    local kernels=$ROOT/etc/fault-tracer/kernels added=$MORE newest_first='sort -rV'
    if [[ $arch == arm64 ]]; then
        # The plain one comes before the one with larger pages, whose name begins so.
        kernels=$ARM64 added=/dev/null newest_first=cat
        [[ -e $kernels ]] || die_usage "there are no guests of arm64 yet: scripts/vm add arm64"
    fi
    if [[ -z $wanted ]]; then
        head -n 1 "$kernels"
        return
    fi
    while IFS= read -r release; do
        # 7.3 is a prefix of 7.3.4+deb13-amd64, and not of 7.30.1.
        if [[ $release == "$wanted" || $release == "$wanted"[!0-9]* ]]; then
            chosen=$release
            break
        fi
    done < <(
        $newest_first "$kernels"
        [[ ! -e $added ]] || $newest_first "$added"
    )
    [[ -n $chosen ]] ||
        die_usage "no kernel '$wanted' in the sandbox. There are: $(cat "$kernels" "$added" 2>/dev/null | paste -sd' ')"
    printf '%s\n' "$chosen"
}

# As one word of a POSIX shell.
quote() {
    printf "'%s'" "${1//\'/\'\\\'\'}"
}

run_guest() {
    local release status=0 control console word
    release=$(choose_kernel "$guest_arch" "$guest_kernel") || exit
    # Console logs stay when a run fails; a week is long enough.
    find "$LOGS" -name 'console.*' -mtime +7 -delete
    # Left by a run that was killed.
    find "$CACHE" -maxdepth 1 -name 'control.*' -mtime +7 -exec rm -rf -- {} +
    console=$(mktemp -- "$LOGS/console.XXXXXX")
    control=$(mktemp -d -- "$CACHE/control.XXXXXX")
    # shellcheck disable=SC2064  # the folder's name as it is now
    trap "rm -rf -- $(quote "$control")" EXIT

    local -a enter_options=(--guest-export "$CHECKOUT" --bind-to "$LOGS" /run/log
        --bind-to "$control" /run/guest/run)
    [[ $guest_arch == amd64 ]] || enter_options+=(--guest-root /srv/arm64)
    local -a boot_options=(--release "$release" --console-name "${console##*/}")
    {
        if [[ -n $guest_share ]]; then
            echo share=1
            enter_options+=(--bind-to "$guest_share" /run/guest/share)
            boot_options+=(--share)
        fi
        if [[ -n $guest_firmware ]]; then
            enter_options+=(--bind-to "$guest_firmware" /run/firmware)
            boot_options+=(--firmware)
        fi
        if [[ $guest_kind == shell ]]; then
            # No login shell: /etc/profile would take the tools off the PATH.
            guest_command=(bash -i)
            boot_options+=(--interactive)
            printf 'interactive=1 terminal=%s rows=%s columns=%s\n' "$(quote "${TERM:-dumb}")" \
                "$(tput lines)" "$(tput cols)"
        fi
    } >"$control/settings"
    {
        printf exec
        for word in "${guest_command[@]}"; do
            printf ' %s' "$(quote "$word")"
        done
        echo
    } >"$control/command"

    in_root "${enter_options[@]}" --setenv "FAULT_TRACER_CACHE=$CACHE" \
        -- /run/guest/checkout/sandbox/boot "${boot_options[@]}" "${guest_options[@]}" ||
        status=$?
    if ((status != STATUS_PANIC && status != STATUS_TIMEOUT && status != STATUS_SANDBOX)); then
        rm -f -- "$console"
    fi
    exit "$status"
}
