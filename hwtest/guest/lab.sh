# Functions for scripts that run in a guest; every script has them. What they say about failures goes to the standard error.

# fail MESSAGE: ends the script (in a subshell: only that) as failed.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# load MODULE...: loads kernel modules and what they depend on; a module's parameters stand behind it in the same word.
# The modules of the SCSI target bring configfs, which is mounted then.
load() {
    local module
    for module; do
        # shellcheck disable=SC2086  # words, as modprobe takes them
        modprobe -d /run/modules $module || return
    done
    if [[ -d /sys/kernel/config ]] && ! grep -q ' /sys/kernel/config ' /proc/mounts; then
        mount -t configfs configfs /sys/kernel/config
    fi
}

# wait_for COMMAND...: repeats the command, silent, until it succeeds; fails after $WAIT seconds (10).
wait_for() {
    local end=$((SECONDS + ${WAIT:-10}))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            echo "not within ${WAIT:-10} s: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

# scratch FOLDER...: makes folders of the read-only root writable: copies in memory, laid over them.
scratch() {
    local folder copy
    for folder; do
        copy=$(mktemp -d) && cp -a "$folder/." "$copy/" && mount --bind "$copy" "$folder" || return
    done
}

# scsi_address serial SERIAL | vendor VENDOR [PRODUCT]: the one SCSI device with this serial number (VPD page 80h) or these INQUIRY
# strings, as H:C:T:L. None or several: fails. Device names are dealt out in the order of finding; these are not.
scsi_address() {
    local device found=()
    for device in /sys/bus/scsi/devices/*:*:*:*; do
        [[ -e $device/vendor ]] || continue
        case $1 in
        serial) [[ $(scsi_serial "${device##*/}") == "$2" ]] ;;
        vendor) [[ $(scsi_text "$device/vendor") == "$2" && (-z ${3-} || $(scsi_text "$device/model") == "${3-}") ]] ;;
        *) fail "scsi_address: serial or vendor, not '$1'" ;;
        esac && found+=("${device##*/}")
    done
    if ((${#found[@]} != 1)); then
        echo "${#found[@]} SCSI devices with $*: ${found[*]}" >&2
        return 1
    fi
    echo "${found[0]}"
}

# scsi_text FILE: an INQUIRY string of sysfs without the blanks that fill it up.
scsi_text() {
    local text
    read -r text <"$1" && echo "$text"
}

# scsi_serial H:C:T:L: the device's serial number. VPD page 80h: four bytes, then the text.
scsi_serial() {
    local serial
    serial=$(tail -c +5 "/sys/bus/scsi/devices/$1/vpd_pg80" 2>/dev/null | tr -d '\0') || return
    serial=${serial#"${serial%%[! ]*}"}
    echo "${serial%"${serial##*[! ]}"}"
}

# scsi_nodes H:C:T:L: the names below /dev of one device, the sg node first, then st, sch or sd (those that are there now).
# It waits for the sg node, which the kernel makes last.
scsi_nodes() {
    local device=/sys/bus/scsi/devices/$1 names
    wait_for test -d "$device/scsi_generic" || return
    names=$(ls "$device/scsi_generic")
    # Of the many names of a tape drive only the first: the others follow from it.
    names+=" $(ls "$device"/{scsi_tape,scsi_changer,block} 2>/dev/null | grep -E '^(st|sch)[0-9]+$|^sd[a-z]+$')"
    # shellcheck disable=SC2086  # one line
    echo $names
}

# scsi_by_serial SERIAL, scsi_by_vendor VENDOR [PRODUCT]: waits for the device and prints its nodes, as in
# `read -r sg st < <(scsi_by_serial 0123456789)`.
scsi_by_serial() {
    wait_for scsi_address serial "$1" && scsi_nodes "$(scsi_address serial "$1")"
}
scsi_by_vendor() {
    wait_for scsi_address vendor "$@" && scsi_nodes "$(scsi_address vendor "$@")"
}
