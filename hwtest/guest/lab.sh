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

# A process costs some 10 ms in a guest: the functions below start none while they look, and answer each other in REPLY.

# scsi_address serial SERIAL | vendor VENDOR [PRODUCT]: the one SCSI device with this serial number (VPD page 80h) or these INQUIRY
# strings, as H:C:T:L. None or several: fails. Device names are dealt out in the order of finding; these are not.
scsi_address() {
    scsi_find "$@" && echo "$REPLY" && return
    echo "${#REPLIES[@]} SCSI devices with $*: ${REPLIES[*]}" >&2
    return 1
}

# scsi_serial H:C:T:L: the device's serial number.
scsi_serial() {
    scsi_read_serial "/sys/bus/scsi/devices/$1" && echo "$REPLY"
}

# scsi_nodes H:C:T:L: the names below /dev of one device on one line: the sg node first, then st, sch or sd (those that are there now).
# It waits for the sg node, which the kernel makes last.
scsi_nodes() {
    local device=/sys/bus/scsi/devices/$1 node names=()
    wait_for test -d "$device/scsi_generic" || return
    for node in "$device"/{scsi_generic,scsi_tape,scsi_changer,block}/*; do
        # Of the many names of a tape drive only the plain one: the others follow from it.
        [[ ${node##*/} =~ ^(sg|st|sch)[0-9]+$|^sd[a-z]+$ ]] && names+=("${node##*/}")
    done
    echo "${names[*]}"
}

# scsi_by_serial SERIAL, scsi_by_vendor VENDOR [PRODUCT]: waits for the device and prints its nodes, as in
# `read -r sg st < <(scsi_by_serial 0123456789)`.
scsi_by_serial() {
    wait_for scsi_find serial "$@" && scsi_nodes "$REPLY"
}
scsi_by_vendor() {
    wait_for scsi_find vendor "$@" && scsi_nodes "$REPLY"
}

# As scsi_address, in REPLY; all that were found in REPLIES.
scsi_find() {
    local device
    REPLIES=()
    for device in /sys/bus/scsi/devices/*:*:*:*; do
        case $1 in
        serial) scsi_read_serial "$device" && [[ $REPLY == "$2" ]] ;;
        vendor) scsi_read_text "$device/vendor" && [[ $REPLY == "$2" ]] &&
            { [[ -z ${3-} ]] || { scsi_read_text "$device/model" && [[ $REPLY == "$3" ]]; }; } ;;
        *) fail "scsi_address: serial or vendor, not '$1'" ;;
        esac && REPLIES+=("${device##*/}")
    done
    REPLY=${REPLIES[0]-}
    ((${#REPLIES[@]} == 1))
}

# An INQUIRY string of sysfs, without the blanks that fill it up.
scsi_read_text() {
    [[ -r $1 ]] && read -r REPLY <"$1"
}

# VPD page 80h: device type, 80h, two bytes of length (the first is zero), text. Split at zeros, the text stands behind the part that
# ends with 80h, after one byte.
scsi_read_serial() {
    local LC_ALL=C parts part=0
    [[ -r $1/vpd_pg80 ]] && mapfile -d '' -t parts <"$1/vpd_pg80" || return
    until [[ ${parts[part]-} == *$'\x80' ]]; do
        ((++part < ${#parts[@]})) || return
    done
    read -r REPLY <<<"${parts[part + 1]:1}" || return
    [[ -n $REPLY ]]
}
