//! Persons with real OpenSSH keys, and their approvals.

use std::path::PathBuf;
use std::process::Command;

use sealtape_kms::authority::{Actor, Authority, Changed};
use sealtape_kms::protocol::{APPROVAL_NAMESPACE, Operation, Principal, RequestView, Role};
use uuid::Uuid;

/// The key authority's own user, who may register the first persons.
pub fn root() -> Actor {
    Actor::User(nix::unistd::geteuid().as_raw())
}

pub struct Person {
    pub name: &'static str,
    pub key: PathBuf,
}

impl Person {
    /// Makes a key pair in `dir`; `kind` as `ssh-keygen -t` has it.
    pub fn with_key(dir: &std::path::Path, name: &'static str, kind: &str) -> Self {
        let key = dir.join(format!("{name}-{kind}-{}", Uuid::new_v4()));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", "", "-C", "a comment", "-f"])
            .arg(&key)
            .status()
            .unwrap();
        assert!(made.success());
        Self { name, key }
    }

    pub fn public(&self) -> String {
        std::fs::read_to_string(self.key.with_extension("pub")).unwrap()
    }

    /// The armoured signature over a text.
    pub fn sign(&self, text: &str) -> String {
        self.sign_for(text, APPROVAL_NAMESPACE, "sha512")
    }

    pub fn sign_for(&self, text: &str, namespace: &str, hash: &str) -> String {
        let file = self.key.with_extension(Uuid::new_v4().to_string());
        std::fs::write(&file, text).unwrap();
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-O", &format!("hashalg={hash}"), "-f"])
            .args([&self.key, &file])
            .output()
            .unwrap();
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        std::fs::read_to_string(format!("{}.sig", file.display())).unwrap()
    }

    pub fn approve(&self, authority: &Authority, request: Uuid) -> RequestView {
        let (_, text) = authority.show_request(request).unwrap();
        authority.approve(root(), request, &self.sign(&text)).unwrap()
    }

    pub fn add(&self) -> Operation {
        Operation::PersonAdd { name: self.name.into(), keys: vec![self.public()] }
    }
}

/// A role for a person, everywhere.
pub fn grant(role: Role, person: &str) -> Operation {
    Operation::Grant { role, principal: Principal::Person(person.into()), tenant: None, pool: None }
}

/// Alice and Bob, security officers; and Carol, registered by them, without a role.
pub struct Custodians {
    pub dir: tempfile::TempDir,
    pub alice: Person,
    pub bob: Person,
    pub carol: Person,
}

impl Custodians {
    pub fn register(authority: &Authority) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let person = |name, kind| Person::with_key(dir.path(), name, kind);
        let (alice, bob, carol) = (person("alice", "ed25519"), person("bob", "ecdsa"), person("carol", "ed25519"));
        for first in [&alice, &bob, &carol] {
            assert!(matches!(authority.change_persons(root(), first.add(), None).unwrap(), Changed::AtOnce(_)));
        }
        for officer in ["alice", "bob"] {
            authority.change_persons(root(), grant(Role::SecurityOfficer, officer), None).unwrap();
        }
        Self { dir, alice, bob, carol }
    }

    /// Both officers approve.
    pub fn approve(&self, authority: &Authority, request: Uuid) {
        self.alice.approve(authority, request);
        self.bob.approve(authority, request);
    }

    /// Asks, has it approved by both, and carries a change of persons or roles out.
    pub fn change(&self, authority: &Authority, operation: Operation) -> u64 {
        let request = authority.submit(root(), operation, None).unwrap().request;
        self.approve(authority, request);
        authority.execute_change(root(), request).unwrap()
    }
}
