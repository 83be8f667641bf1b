//! Amanda 3.5 on the virtual drive, as its own user: `amlabel`, `amcheck`, `amdump`, `amcheckdump` and `amfetchdump` over the kernel's own tape driver.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::Guest;

const CONFIGURATION: &str = r#"org "sealtape"
mailto ""
dumpuser "backup"
inparallel 1
dumpcycle 0
runspercycle 1
tapecycle 3 tapes
runtapes 1
tpchanger "chg-single:tape:NODE"
tapetype SEALED
labelstr "^DAILY-[0-9]+$"
infofile "/var/lib/amanda/state/info"
logdir "/var/lib/amanda/state/log"
indexdir "/var/lib/amanda/state/index"
tapelist "/var/lib/amanda/state/tapelist"
etimeout 60
dtimeout 60
ctimeout 30
define tapetype SEALED {
  length 200 mbytes
  filemark 0 kbytes
  blocksize 256 kbytes
}
define dumptype plain {
  auth "local"
  program "GNUTAR"
  compress none
  index yes
  holdingdisk never
}
"#;

#[test]
fn amanda_labels_dumps_checks_and_restores() {
    for folder in ["/var/lib/amanda", "/etc/amanda", "/var/log/amanda"] {
        if !std::path::Path::new(folder).is_dir() {
            eprintln!("SKIPPED: {folder} is not there (Debian: amanda-server, amanda-client)");
            return;
        }
    }
    let script = r#"
        chain
        A=/var/lib/amanda
        scratch $A /etc/amanda /var/log/amanda || fail scratch
        # Empty: what stands in this machine's may be larger than the guest.
        mount -t tmpfs -o mode=1777 tmpfs /tmp || fail "/tmp"
        # Amanda resolves names with AI_ADDRCONFIG, for which loopback addresses do not count.
        busybox ip address add 192.0.2.1/32 dev lo || fail "address"
        printf '127.0.0.1 localhost\n192.0.2.1 sealtape-lab\n' >hosts && : >nothing
        mount --bind hosts /etc/hosts && mount --bind nothing /etc/resolv.conf || fail "hosts"
        mkdir -p /etc/amanda/test $A/state/{info,log,index} $A/gnutar-lists $A/data/{one,two}
        sed "s|NODE|$NST|" <<<"$CONFIGURATION" >/etc/amanda/test/amanda.conf
        printf 'localhost %s plain\n' $A/data/one $A/data/two >/etc/amanda/test/disklist
        : >$A/state/tapelist
        echo 'localhost backup amdump' >$A/.amandahosts && chmod 600 $A/.amandahosts
        head -c 3000000 /dev/urandom >$A/data/one/random && cp /usr/bin/tar $A/data/one/ && cp /usr/bin/bash $A/data/two/
        mkdir $A/data/two/deep && : >$A/data/two/deep/empty
        chown -R backup:backup $A /etc/amanda /var/log/amanda && chown backup $NST && chmod 755 $A
        as() { (cd $A && runuser -u backup -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=$A timeout 60 "$@") 2>&1; }
        logs() { cat $A/state/log/log.* 2>/dev/null; tail -5 run.log; }

        as amlabel test DAILY-1 >said || fail "amlabel: $(cat said; logs)"
        cat said
        grep -q 'Success!' said || fail "amlabel"
        as amcheck test >said || fail "amcheck: $(cat said; logs)"
        grep -q "volume 'DAILY-1'" said && grep -q '0 problems found' said || fail "amcheck: $(cat said)"
        as amdump test >said || fail "amdump: $(cat said; logs)"
        (($(logs | grep -c '^SUCCESS dumper localhost') == 2)) || fail "amdump: $(logs)"
        logs | grep -E '^(FAIL|STRANGE|ERROR)' && fail "amdump: $(logs)"
        as amcheckdump test >said || fail "amcheckdump: $(cat said; logs)"
        cat said
        grep -q 'All images (2) successfully validated' said || fail "amcheckdump"
        run=$(awk '{print $1}' $A/state/tapelist)
        for disk in one two; do
            mkdir got-$disk && chown backup got-$disk
            (cd $A && runuser -u backup -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=$A amfetchdump -a -p test localhost \
                $A/data/$disk $run 2>/dev/shm/fetch.log) >$disk.tar || fail "amfetchdump: $(cat fetch.log; logs)"
            tar -xf $disk.tar -C got-$disk && diff -r $A/data/$disk got-$disk || fail "$disk is not what was saved"
            echo "$disk: $(stat -c %s $disk.tar) bytes fetched"
        done
        stop_services && stop_raw_drive
        grep -q 'AMANDA: TAPESTART' raw.img && fail "Amanda's label stands in the clear on the medium"
        exit 0
    "#;
    let guest = Guest::uml().time_limit(std::time::Duration::from_secs(300)).env("CONFIGURATION", CONFIGURATION);
    let outcome = guest.run_chain(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    println!("{:?}\n{}", outcome.duration, outcome.output);
}
