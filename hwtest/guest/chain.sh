# The whole chain in one guest: a lab drive that plays the real one, and the product over it. Scripts that use it set BIN to the folder of
# the binaries. Names of nodes are found by serial number and address; they change with the order of finding.
export SEALTAPE_HOME=/dev/shm/home
RAW_SERIAL=RAW0000042

# target_modules: the SCSI target, which keeps reservations below its root folder and wants one that can be written.
target_modules() {
    load target_core_mod || fail "no SCSI target in this kernel"
    mkdir -p /run/target/pr && echo /run/target >/sys/kernel/config/target/dbroot || fail dbroot
    load target_core_user tcm_loop st sg || fail "no virtual SCSI drives in this kernel"
}

# raw_drive [ARGUMENT...]: starts the lab drive (--image and --serial are given; --create MIB makes the cartridge). Its nodes are then
# in RAW (/dev/nstN) and RAWSG, its process in RAW_PID, its log in raw.log.
raw_drive() {
    "$BIN/sealtape-lab-drive" --image /dev/shm/raw.img --serial $RAW_SERIAL "$@" >raw.out 2>raw.log &
    RAW_PID=$!
    wait_for grep -q ^ready raw.out || fail "the lab drive does not start: $(cat raw.log)"
    local st
    read -r RAWSG st < <(scsi_by_serial $RAW_SERIAL) || fail "the lab drive has no nodes"
    RAWSG=/dev/$RAWSG RAW=/dev/n$st RAW_ADDRESS=$(scsi_address serial $RAW_SERIAL)
}

stop_raw_drive() {
    kill "$RAW_PID" && wait "$RAW_PID" || fail "the lab drive ended with $?: $(cat raw.log)"
}

# library LINE...: starts the lab changer of a library that holds this; `holds LINE...` changes what it holds. Its process is CHANGER_PID, its
# node CHANGER.
library() {
    holds "$@"
    "$BIN/sealtape-lab-changer" --inventory /dev/shm/library >changer.out 2>changer.log &
    CHANGER_PID=$!
    wait_for grep -q ^ready changer.out || fail "the lab changer does not start: $(cat changer.log)"
    read -r CHANGER _ < <(scsi_by_serial LIB0000001) || fail "the lab changer has no node"
    CHANGER=/dev/$CHANGER
}
holds() {
    printf '%s\n' "$@" >/dev/shm/library.new && mv /dev/shm/library.new /dev/shm/library
}

stop_library() {
    kill "$CHANGER_PID" && wait "$CHANGER_PID" || fail "the lab changer ended with $?: $(cat changer.log)"
}

# found [SETTING...]: a home folder with token and keys; drive0 is the lab drive behind a virtual one. Lines may be added to the drive.
found() {
    "$BIN/sealtape" init --quiet --drive drive0 || fail init
    local line settings='front_end = "tcmu"\nvirtual_serial = "VIRTUAL001"'
    for line; do settings+="\\n$line"; done
    sed -i "s/^back_end = \"image\"/back_end = \"scsi\"\\nserial = \"$RAW_SERIAL\"\\n$settings/" $SEALTAPE_HOME/sealtape.toml
}

# services: starts the product and waits until it is ready. The virtual drive's nodes are then in NST (/dev/nstN), ST (rewinds at close)
# and NSTSG; its process in RUN_PID, its log in run.log.
services() {
    "$BIN/sealtape" run >run.out 2>run.log &
    RUN_PID=$!
    WAIT=30 wait_for eval 'grep -q "^ready; stop" run.log || ! kill -0 $RUN_PID'
    grep -q '^ready; stop' run.log || fail "the services do not start: $(cat run.log)"
    local st
    read -r NSTSG st < <(scsi_by_serial VIRTUAL001) || fail "the virtual drive has no nodes"
    NSTSG=/dev/$NSTSG NST=/dev/n$st ST=/dev/$st VIRTUAL_ADDRESS=$(scsi_address serial VIRTUAL001)
}

stop_services() {
    kill "$RUN_PID" && wait "$RUN_PID" || fail "the services ended with $?: $(cat run.log)"
}

# chain [MIB]: everything, with a labelled volume in the drive.
chain() {
    cd /dev/shm && target_modules && raw_drive --create "${1:-256}" --barcode LAB001L8 && found && services
    "$BIN/sealtape" volume load drive0 && "$BIN/sealtape" volume label drive0 T1 || fail "label: $(cat run.log)"
    sg_turs $NSTSG >/dev/null 2>&1 # The change of the medium was told.
    sg_turs $NSTSG >/dev/null 2>&1 || sg_turs $NSTSG || fail "not ready"
} >&2
