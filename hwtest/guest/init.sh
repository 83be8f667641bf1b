#!/bin/bash
# The first process of a guest. The kernel's command line gives it, as environment, SEALTAPE_GUEST (uml or qemu), SEALTAPE_JOB (the job
# folder on the host) and SEALTAPE_MODULES (the folder with one folder of modules per kernel version).
# What is shared with the host: see hwtest/src/guest/job.rs.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
job=/run/job

# The script cannot be started: say why, and end.
give_up() {
    echo "lab: $*"
    echo "$*" >$job/failed
    busybox poweroff -f
    exit 1
}

# must COMMAND...: a command without which there is no guest.
must() {
    local said
    said=$("$@" 2>&1) || give_up "\`$*\` failed: $said"
}

# util-linux's mount does not know hostfs's option, which is the host's path and has no name: busybox's does.
mount_folder() {
    case $SEALTAPE_GUEST in
    uml) must busybox mount -t hostfs none "$2" -o "$3" ;;
    qemu) must busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none "$1" "$2" ;;
    *) give_up "no such kind of guest: '$SEALTAPE_GUEST'" ;;
    esac
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p $job /run/tmp /run/home /run/lock /dev/shm /dev/pts
mount_folder job $job "$SEALTAPE_JOB"
[[ ! -e $job/started ]] || give_up "the guest started a second time: the script, or the kernel, has rebooted it"
>$job/started

must mount -t tmpfs -o mode=1777 tmpfs /dev/shm
must mount -t tmpfs -o mode=1777 tmpfs /run/tmp
must mount -t devpts devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
must busybox hostname sealtape-lab
must busybox ip link set lo up

number=0
while read -r folder; do
    mount_folder folder$number "$folder" "$folder"
    number=$((number + 1))
done <$job/folders

# modprobe wants the folders as they are below a root.
mkdir -p /run/modules/lib
ln -s "$SEALTAPE_MODULES" /run/modules/lib/modules
. $job/lab.sh
while read -r module; do
    load "$module" >/run/said 2>&1 || give_up "module $module: $(</run/said)"
done <$job/modules

cd $job || give_up "no job folder"
env -i PATH="$PATH" HOME=/run/home USER=root LOGNAME=root LANG=C.UTF-8 TERM=dumb TMPDIR=/run/tmp \
    SEALTAPE_GUEST="$SEALTAPE_GUEST" \
    setsid bash -c '. ./environment; . ./lab.sh; . ./job' job </dev/null >output 2>&1
echo $? >exit
busybox poweroff -f
