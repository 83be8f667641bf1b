# An installed mhvtl with a library of one LTO-8 drive, and the suite on it. Runs in a guest, behind lab.sh, with
#   MODULE   the kernel module's file, PROGRAMS and LIBRARIES the folders of vtltape and of libvtlscsi.so (empty: they are installed)
#   BIN      our own programs, REPORT the file for the report; the arguments go to sealtape-hwtest
# mhvtl's folders are those that it is built with by default, in memory here.
cd "$TMPDIR" || fail TMPDIR
export PATH=${PROGRAMS:+$PROGRAMS:}$PATH LD_LIBRARY_PATH=$LIBRARIES
load scsi_mod sg st ch overlay || fail "no SCSI in this kernel"
insmod "$MODULE" opts=0 || fail "$MODULE does not load"
mkdir upper work && mount -t overlay overlay -o "lowerdir=/etc,upperdir=$PWD/upper,workdir=$PWD/work" /etc &&
    mount -t tmpfs tmpfs /opt && mkdir -p /etc/mhvtl /opt/mhvtl || fail "folders for mhvtl"

cat >/etc/mhvtl/mhvtl.conf <<END
MHVTL_HOME_PATH=/opt/mhvtl
CAPACITY=$CAPACITY
VERBOSE=0
VTL_DEBUG=0
END
cat >/etc/mhvtl/device.conf <<END

VERSION: 5

Library: 10 CHANNEL: 00 TARGET: 00 LUN: 00
 Vendor identification: STK
 Product identification: L700
 Unit serial number: LIBRARY010
 NAA: 10:22:33:44:ab:00:00:00
 Home directory: /opt/mhvtl
 PERSIST: False
 Backoff: 400

Drive: 11 CHANNEL: 00 TARGET: 01 LUN: 00
 Library ID: 10 Slot: 01
 Vendor identification: IBM
 Product identification: ULT3580-TD8
 Product revision level: 550V
 Unit serial number: DRIVE00011
 NAA: 10:22:33:44:ab:00:01:00
 Compression: factor 1 enabled 1
 Compression type: lzo
 Backoff: 400

END
cat >/etc/mhvtl/library_contents.10 <<END
VERSION: 2

Drive 1: DRIVE00011

Picker 1:

MAP 1:

Slot 1: SEA001L8
Slot 2: SEA002L8
Slot 3: SEA003LY
Slot 4: CLN101L8
Slot 5: SEA005L8
Slot 6:
END
cartridge() {
    mktape -l 10 -s "$CAPACITY" -t "$2" -m "$1" -d LTO8 >mktape.log 2>&1 || fail "mktape $1: $(<mktape.log)"
}
cartridge SEA001L8 data
cartridge SEA002L8 data
cartridge SEA003LY WORM
cartridge CLN101L8 clean
cartridge SEA005L8 data
edit_tape -l 10 -m SEA005L8 -w on >mktape.log 2>&1 || fail "edit_tape: $(<mktape.log)"

vtltape -q11 -F -v0 >vtltape.log 2>&1 &
vtllibrary -q10 -F -v0 >vtllibrary.log 2>&1 &
WAIT=120
read -r DRIVE _ < <(scsi_by_serial DRIVE00011) || fail "the drive does not appear: $(cat vtltape.log)"
read -r CHANGER _ < <(scsi_by_serial LIBRARY010) || fail "the changer does not appear: $(cat vtllibrary.log)"
wait_for mtx -f /dev/$CHANGER status || fail "the changer does not get ready"
lsscsi -g
echo

"$BIN/sealtape-hwtest" --drive /dev/$DRIVE --changer /dev/$CHANGER --scratch SEA001L8 --worm SEA003LY --protected SEA005L8 \
    --cleaning CLN101L8 --product "$BIN" --report "$REPORT" "$@"
code=$?
((code == 0)) || dmesg | grep -v ' type=1400 ' | tail -5
for daemon in 10 11; do
    vtlcmd $daemon exit >/dev/null 2>&1 || echo "vtlcmd $daemon exit failed"
done
exit $code
