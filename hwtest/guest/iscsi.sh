# A virtual drive behind the kernel's own iSCSI target, and open-iscsi as the host of another machine, both in one guest over loopback.
# Stands behind chain.sh. The steps are those of docs/iscsi.md.
TARGET=iqn.2026-11.example.sealtape:drive0
HOST=iqn.2026-11.example.backup:host
STRANGER=iqn.2026-11.example.backup:stranger
PORTAL=127.0.0.1:3260
GROUP=/sys/kernel/config/target/iscsi/$TARGET/tpgt_1
HOST_SECRET=host-secret-0123 TARGET_SECRET=target-secret-4567

# exported_drive BLOCK: the services with a file-backed drive0 for blocks up to BLOCK (as "4MiB"), which is served to the target and to
# nothing else, and a labelled volume in it. Its process is in RUN_PID, its log in run.log, the medium in A00001L8.tape.
exported_drive() {
    cd /dev/shm && target_modules || fail "no place to work"
    "$BIN/sealtape" init --quiet --drive drive0 || fail init
    sed -i -e 's/^back_end = "image"/&\nfront_end = "tcmu"\nlocal = false\nvirtual_serial = "VIRTUAL001"/' \
        -e "s/^max_block = .*/max_block = \"$1\"/" $SEALTAPE_HOME/sealtape.toml
    "$BIN/sealtape" image create A00001L8.tape --capacity 512M --barcode A00001L8 || fail "image create"
    run_services
    "$BIN/sealtape" volume load drive0 A00001L8.tape && "$BIN/sealtape" volume label drive0 T1 || fail "label: $(cat run.log)"
} >&2

# run_services: starts the product and waits until it is ready.
run_services() {
    rm -f run.log # What an earlier run said must not be taken for this one's word.
    "$BIN/sealtape" run >run.out 2>run.log &
    RUN_PID=$!
    WAIT=30 wait_for eval 'grep -q "^ready; stop" run.log || ! kill -0 $RUN_PID'
    grep -q '^ready; stop' run.log || fail "the services do not start: $(cat run.log)"
}

# put FILE TEXT: writes an attribute of the target.
put() {
    echo -n "$2" >"$1" || fail "$1 does not take '$2'"
}

# export_unit: the target, with mutual CHAP and an access list of one initiator.
export_unit() {
    load iscsi_target_mod || fail "no iSCSI target in this kernel"
    [[ -d /sys/kernel/config/target/iscsi ]] || mkdir /sys/kernel/config/target/iscsi || fail "no fabric"
    mkdir -p $GROUP $GROUP/np/$PORTAL $GROUP/lun/lun_0 && ln -s /sys/kernel/config/target/core/user_5773/drive0 $GROUP/lun/lun_0/drive0 ||
        fail "the unit cannot be linked"
    put $GROUP/attrib/authentication 1
    put $GROUP/attrib/generate_node_acls 0
    put $GROUP/attrib/demo_mode_discovery 0
    put $GROUP/param/HeaderDigest CRC32C
    put $GROUP/param/DataDigest CRC32C
    local list=$GROUP/acls/$HOST
    mkdir -p $list/lun_0 && ln -s $GROUP/lun/lun_0 $list/lun_0/drive0 || fail "the access list"
    put $list/auth/userid host
    put $list/auth/password $HOST_SECRET
    put $list/auth/userid_mutual sealtape
    put $list/auth/password_mutual $TARGET_SECRET
    put $GROUP/enable 1
}

# unexport: takes the target away, from the inside out.
unexport() {
    put $GROUP/enable 0
    rm $GROUP/acls/$HOST/lun_0/drive0 && rmdir $GROUP/acls/$HOST/lun_0 $GROUP/acls/$HOST || fail "the access list stays"
    rm $GROUP/lun/lun_0/drive0 && rmdir $GROUP/lun/lun_0 $GROUP/np/$PORTAL $GROUP ${GROUP%/*} || fail "the target stays"
    rmdir /sys/kernel/config/target/iscsi || fail "the fabric stays"
}

# initiator: open-iscsi's daemon; its process is in ISCSID_PID. It knows the target under two names: as the host, and as a stranger who has
# come by the host's secrets.
initiator() {
    load iscsi_tcp st sg || fail "no iSCSI initiator in this kernel"
    scratch /etc/iscsi && mkdir -p /run/lock/iscsi /etc/iscsi/ifaces || fail "nowhere to keep records"
    # What stands here goes into every new record of a target. One call of iscsiadm for each value would take half a second.
    cat >>/etc/iscsi/iscsid.conf <<-CONF
	node.session.auth.authmethod = CHAP
	node.session.auth.chap_algs = SHA256
	node.session.auth.username = host
	node.session.auth.password = $HOST_SECRET
	node.session.auth.username_in = sealtape
	node.session.auth.password_in = $TARGET_SECRET
	node.conn[0].iscsi.HeaderDigest = CRC32C
	node.conn[0].iscsi.DataDigest = CRC32C
	node.session.initial_login_retry_max = 1
	CONF
    iface host $HOST
    iface stranger $STRANGER
    # A session of its own: ending, the daemon signals its whole process group.
    setsid iscsid -f -d 1 >iscsid.log 2>&1 &
    ISCSID_PID=$!
    wait_for node host -o new && node stranger -o new || fail "iscsid does not start: $(cat iscsid.log)"
} >&2

iface() {
    printf '%s\n' "iface.iscsi_ifacename = $1" 'iface.transport_name = tcp' "iface.initiatorname = $2" >/etc/iscsi/ifaces/"$1"
}

# node NAME ARGUMENT...: iscsiadm on the target's record as the host or the stranger.
node() {
    iscsiadm -m node -T $TARGET -p $PORTAL,1 -I "$@"
}

# set_node NAME SETTING VALUE [-n SETTING -v VALUE]...: changes the record.
set_node() {
    node "$1" -o update -n "$2" -v "${@:3}" || fail "$2 of $1"
}

# refused NAME WHAT: a login that must fail, and leaves no session. What iscsiadm ended with is in REPLY.
refused() {
    node "$1" --login >refused.out 2>&1
    REPLY=$?
    ((REPLY != 0)) || fail "logged in: $2"
    ! iscsiadm -m session >/dev/null 2>&1 || fail "a session stays: $2"
    echo "$2: $REPLY $(grep -o 'encountered.*\|reported error.*' refused.out)"
}

# log_in: as the host. The drive's nodes are then in NST and NSTSG.
log_in() {
    node host --login >&2 || fail "login: $(cat iscsid.log)"
    local st
    read -r NSTSG st < <(scsi_by_serial VIRTUAL001) || fail "the exported drive has no nodes"
    NSTSG=/dev/$NSTSG NST=/dev/n$st
    sg_turs $NSTSG >/dev/null 2>&1 # Power-on, and the change of the medium, were told.
    wait_for sg_turs $NSTSG || fail "not ready: $(sg_turs -v $NSTSG 2>&1)"
}

log_out() {
    node host --logout >&2 || fail "logout: $(cat iscsid.log)"
    ! scsi_find serial VIRTUAL001 || fail "the drive is still there after logout"
}

stop_initiator() {
    kill "$ISCSID_PID" && wait "$ISCSID_PID" || fail "iscsid ended with $?: $(cat iscsid.log)"
}
