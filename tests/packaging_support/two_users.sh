#!/usr/bin/env bash
# An installation as docs/operating.md makes it, with users, groups, folders, credentials and capabilities
# as the units have them, in a mount namespace of its own (unshare --mount). $1 binaries, $2 an empty folder.
set -euo pipefail
binaries=$1 base=$2
home=$base/home etc=$base/etc
keyd= data=
trap '[[ -z $data ]] || kill "$data" 2>/dev/null || true; [[ -z $keyd ]] || kill "$keyd" 2>/dev/null || true' EXIT

fail() { echo "two_users: $*" >&2; tail -n 20 "$base"/*.log >&2; exit 1; }
refused() { if "$@" >"$base/said" 2>&1; then fail "was not refused: $*"; fi; }
as() { # USER CAPABILITIES COMMAND...
    local user=$1 bounding=$2
    shift 2
    setpriv --reuid="$user" --regid="$user" --init-groups --inh-caps=-all --bounding-set="$bounding" "$@"
}

mount --make-rprivate /
chmod 755 "$base"
mkdir -m 755 "$etc" "$base/bin" "$etc/tokens"
cp "$binaries"/{sealtape,sealtaped,sealtape-keyd} "$base/bin/"
export PATH=$base/bin:$PATH

# /dev/fuse as Debian has it, users as sysusers.d makes them, and FUSE open to other users.
mknod "$base/fuse" c 10 229
chmod 666 "$base/fuse"
mount --bind "$base/fuse" /dev/fuse
cp /etc/passwd /etc/group "$etc/"
cat >>"$etc/passwd" <<X
t-data:x:60991:60991::/:/usr/sbin/nologin
t-keyd:x:60992:60992::/:/usr/sbin/nologin
t-olga:x:60993:60993::/:/bin/sh
t-host:x:60994:60994::/:/bin/sh
t-none:x:60995:60995::/:/bin/sh
X
cat >>"$etc/group" <<X
t-data:x:60991:
t-keyd:x:60992:
t-olga:x:60993:
t-host:x:60994:
t-none:x:60995:
t-sockets:x:60996:t-data,t-keyd
t-operators:x:60997:t-olga
t-tape:x:60998:t-host
X
{ cat /etc/fuse.conf 2>/dev/null || true; echo user_allow_other; } >"$etc/fuse.conf"
for file in passwd group fuse.conf; do
    chmod 644 "$etc/$file"
    touch "/etc/$file"
    mount --bind "$etc/$file" "/etc/$file"
done

# A token that was made elsewhere; init as root; then configuration and folders as the guide says.
export SOFTHSM2_CONF=$etc/softhsm2.conf
echo "directories.tokendir = $etc/tokens" >"$SOFTHSM2_CONF"
softhsm2-util --init-token --free --label sealtape --so-pin 87654321 --pin 1234567 >/dev/null
(umask 077 && printf 1234567 >"$etc/hsm-pin")
sealtape --quiet --home "$home" init --token pkcs11:token=sealtape --pin-file "$etc/hsm-pin" >/dev/null
mv "$home/sealtape.toml" "$etc/sealtape.toml"
sed -i -e 's/^pin = .*/pin = { credential = "hsm-pin" }\ndata_path_users = ["t-data"]\noperator_group = "t-operators"/' \
    -e 's/^node_mode = .*/node_mode = "0660"\nnode_group = "t-tape"/' "$etc/sealtape.toml"
chmod 755 "$home"
chown root:t-sockets "$home/run"
chmod 1771 "$home/run"
chown t-data:t-data "$home/nodes"
chmod 755 "$home/nodes"
install -d -m 700 -o t-data -g t-data "$home/cartridges"
chown -R t-keyd:t-keyd "$home/keyd" "$etc/tokens"
chown -R t-data:t-data "$home/data"
chmod 700 "$home/keyd" "$home/data"
for service in keyd data; do
    install -d -m 500 -o "t-$service" "$base/cred-$service"
    install -m 400 -o "t-$service" "$etc/sealtape.toml" "$base/cred-$service/"
done
install -m 400 -o t-keyd "$etc/hsm-pin" "$base/cred-keyd/"

wait_for() { for _ in $(seq 300); do [[ -e $1 ]] && return; sleep 0.1; done; fail "$1 did not appear"; }
CREDENTIALS_DIRECTORY=$base/cred-keyd setpriv --no-new-privs --reuid=t-keyd --regid=t-keyd --init-groups \
    --inh-caps=-all --bounding-set=-all sealtape-keyd --home "$home" >"$base/keyd.log" 2>&1 &
keyd=$!
wait_for "$home/run/keys.sock"
env -u SOFTHSM2_CONF CREDENTIALS_DIRECTORY="$base/cred-data" setpriv --reuid=t-data --regid=t-data --init-groups \
    --inh-caps=-all --bounding-set=-all,+sys_admin sealtaped --home "$home" >"$base/data.log" 2>&1 &
data=$!
node=$home/nodes/nst0
wait_for "$node"

# The operator works through the sockets, the host through the node, and both with nothing else.
as t-data -all sealtape image create "$home/cartridges/A.tape" --capacity 64M >/dev/null
sealtape --home "$home" volume load drive0 "$home/cartridges/A.tape" >/dev/null
as t-olga -all sealtape --home "$home" volume label drive0 TWO >/dev/null
head -c 3000000 /dev/urandom >"$base/payload"
as t-host -all tar -b 512 -cf "$node" -C "$base" payload
as t-host -all mt-st -f "$node" rewind
as t-host -all tar -b 512 -df "$node" -C "$base"

# Nobody reaches what is another's.
refused as t-none -all tar -tf "$node"
refused as t-olga -all tar -tf "$node"
refused as t-none -all sealtape --home "$home" volume list
refused as t-none -all sealtape --home "$home" volume unload drive0
refused as t-host -all sealtape --home "$home" volume unload drive0
refused as t-data -all cat "$home/keyd/catalogue.db"
refused as t-data -all cat "$base/cred-keyd/hsm-pin"
refused as t-keyd -all ls "$home/data"
refused as t-keyd -all tar -tf "$node"
refused as t-data -all rm "$home/run/keyd.sock"

as t-olga -all sealtape --home "$home" volume unload drive0 >/dev/null 2>&1
kill "$data"
wait "$data" || fail "sealtaped ended with $?"
data=
kill "$keyd"
wait "$keyd" || fail "sealtape-keyd ended with $?"
keyd=
! grep -q " $home/nodes " /proc/self/mountinfo || fail "the nodes are still mounted"
echo "two users: all as it should be"
