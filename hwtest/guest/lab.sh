# Functions for scripts that run in a guest; every script has them.

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
