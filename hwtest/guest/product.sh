# The product over a real drive: label, tar, compare, dd with blocks of many lengths. Before it stand lab.sh and chain.sh. DRIVE_SERIAL is
# the drive, BARCODE the cartridge in it. What it tells goes into the report; exit code 77: this kernel lacks what is needed.
exec 3>&1 >&2
tell() {
    echo "$*" >&3
}
if [[ ! -d /run/modules ]]; then
    load() {
        local module
        for module; do modprobe "$module" || return; done
    }
fi
unavailable() {
    echo "$*" >&2
    exit 77
}
export SEALTAPE_HOME=$PWD/home
RAW_SERIAL=$DRIVE_SERIAL
modprobe -n $([[ -d /run/modules ]] && echo -d /run/modules) tcm_loop 2>/dev/null || unavailable "this kernel has no tcm_loop: no virtual SCSI drive"
# Where the target is at work already its folder cannot be changed any more, and needs not be.
[[ -d /sys/kernel/config/target/core ]] || target_modules
trap '[[ -z ${RUN_PID-} ]] || kill "$RUN_PID" 2>/dev/null; wait' EXIT
found
services
"$BIN/sealtape" volume load drive0 || fail "load: $(tail run.log)"
"$BIN/sealtape" volume label drive0 HWTEST --overwrite clear ${BARCODE:+--barcode "$BARCODE"} || fail "label: $(tail run.log)"
sg_turs $NSTSG >/dev/null 2>&1 # The change of the medium was told.
sg_turs $NSTSG >/dev/null 2>&1 || sg_turs $NSTSG || fail "not ready"

tar -b 128 -cf $NST clear || fail "tar -c: $(tail run.log)"
mt -f $NST rewind && tar -b 128 -df $NST || fail "tar -d: $(tail run.log)"
tell "tar: $(stat -c %s clear) bytes written in records of 64 KiB, and compared"

mt -f $NST rewind && mt -f $NST eod || fail eod
for length in 1 7 512 10240 65537 200000; do
    head -c $length clear | dd of=$NST bs=$length count=1 iflag=fullblock 2>/dev/null || fail "dd of $length bytes"
done
mt -f $NST rewind && mt -f $NST fsf 1 || fail fsf
for length in 1 7 512 10240 65537 200000; do
    dd if=$NST of=back bs=262144 count=1 2>/dev/null || fail "dd of $length bytes back"
    cmp -n $length back clear && [[ $(stat -c %s back) == "$length" ]] || fail "$length bytes came back as $(stat -c %s back)"
    mt -f $NST fsf 1 || fail "fsf after $length bytes"
done
tell "dd: blocks of 1 to 200000 bytes, each in a file of its own, written and read back"
mt -f $NST rewind && mt -f $NST fsf 3 && mt -f $NST bsf 1 && tell "after fsf 3 and bsf 1: $(mt -f $NST tell)" || fail "fsf, bsf"
stop_services
RUN_PID=
exit 0
