//! Who may connect: by what the kernel says of the peer.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

use crate::control::{ControlError, ErrorCode};

/// Root, the service's own user, and the members of the operator group.
#[derive(Clone, Debug)]
pub struct Access {
    operator_group: Option<Gid>,
}

impl Access {
    /// With an operator group, or without.
    pub fn new(operator_group: Option<Gid>) -> Self {
        Self { operator_group }
    }

    /// Whether a peer with this user and primary group may ask. Looks groups up (NSS): this may block.
    pub fn check(&self, uid: u32, gid: u32) -> Result<(), ControlError> {
        let uid = Uid::from_raw(uid);
        if uid.is_root() || uid == geteuid() {
            return Ok(());
        }
        let refused = |why: String, mend: &str| Err(ControlError::new(ErrorCode::NotPermitted, why, mend));
        let Some(group) = self.operator_group else {
            return refused(
                format!("user {uid} may not use this data path: it serves its own user and root only"),
                "ask the administrator to set operator_group in [keyd] of sealtape.toml",
            );
        };
        if Gid::from_raw(gid) == group {
            return Ok(());
        }
        match groups_of(uid) {
            Ok(groups) if groups.contains(&group) => Ok(()),
            Ok(_) => refused(
                format!("user {uid} is not a member of the operator group {group}"),
                "ask the administrator for membership, then log in anew",
            ),
            Err(errno) => refused(
                format!("the groups of user {uid} cannot be looked up: {errno}"),
                "mend the user database (NSS), then try again",
            ),
        }
    }
}

fn groups_of(uid: Uid) -> Result<Vec<Gid>, Errno> {
    let Some(user) = User::from_uid(uid)? else { return Ok(Vec::new()) };
    let name = CString::new(user.name).map_err(|_| Errno::EINVAL)?;
    getgrouplist(&name, user.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_oneself_always_others_by_group() {
        let nobody = User::from_name("nobody").unwrap().expect("every system has a user nobody");
        let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
        let own = Access::new(None);
        own.check(0, 0).unwrap();
        own.check(geteuid().as_raw(), 12345).unwrap();
        assert_eq!(own.check(uid, gid).unwrap_err().code, ErrorCode::NotPermitted);
        Access::new(Some(nobody.gid)).check(uid, gid).unwrap();
        Access::new(Some(nobody.gid)).check(uid, 4_000_000).unwrap();
        assert!(Access::new(Some(Gid::from_raw(4_000_001))).check(uid, gid).is_err());
        assert!(Access::new(Some(nobody.gid)).check(4_000_002, 4_000_002).is_err());
    }
}
