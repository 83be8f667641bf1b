#!/bin/busybox sh
# The first process under QEMU, in the kernel's first root: gets at the host's files and goes on with the init of the job folder.

b=/bin/busybox

give_up() {
    echo "lab: $*"
    $b poweroff -f
}

$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    $b insmod "$module" || give_up "module $module does not load"
done
# The host's files do not change under the guest's feet in a way that matters: they may be cached.
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /root ||
    give_up "the host's root cannot be mounted"
$b umount /proc /sys
$b mount --move /dev /root/dev || give_up "/dev cannot be moved"
exec $b switch_root /root "$SEALTAPE_JOB/init"
