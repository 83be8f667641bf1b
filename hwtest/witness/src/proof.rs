//! Consistency proofs, verified from the definition (RFC 6962 section 2.1.2, recursively): slow, and obviously right.

use sha2::{Digest, Sha256};

type Hash = [u8; 32];

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the empty tree.
pub(crate) fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Largest power of two below `n` (n > 1).
fn split(n: u64) -> u64 {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// Rebuilds the roots of the old and the new subtree from a proof: SUBPROOF(m, D\[n\], whole) read backwards. `whole` says that the
/// old subtree is the old tree itself, whose root need not be in the proof.
fn roots(m: u64, n: u64, whole: bool, old: &Hash, proof: &[Hash]) -> Option<(Hash, Hash)> {
    if m == n {
        return match (whole, proof) {
            (true, []) => Some((*old, *old)),
            (false, [same]) => Some((*same, *same)),
            _ => None,
        };
    }
    let (last, rest) = proof.split_last()?;
    let k = split(n);
    if m <= k {
        let (left_old, left_new) = roots(m, k, whole, old, rest)?;
        Some((left_old, node(&left_new, last)))
    } else {
        let (right_old, right_new) = roots(m - k, n - k, false, old, rest)?;
        Some((node(last, &right_old), node(last, &right_new)))
    }
}

/// Whether `proof` shows that the tree of `new_size` leaves begins with that of `old_size`.
#[must_use]
pub fn consistent(old_size: u64, old: &Hash, new_size: u64, new: &Hash, proof: &[Hash]) -> bool {
    if old_size == 0 {
        return proof.is_empty();
    }
    if old_size > new_size || new_size > 1 << 62 {
        return false;
    }
    roots(old_size, new_size, true, old, proof) == Some((*old, *new))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use sealtape_kms::custody::tree::{RightEdge, consistency_path, leaf_hash};

    use super::*;

    #[test]
    fn proofs_of_the_product_are_accepted_and_changed_ones_are_not() {
        let mut edge = RightEdge::default();
        let mut nodes = HashMap::new();
        let mut sizes = vec![edge.root()];
        for n in 0..40u64 {
            edge.append(leaf_hash(&n.to_be_bytes()), |at, hash| {
                nodes.insert((at.level, at.index), *hash);
            });
            sizes.push(edge.root());
        }
        for new in 1..=40u64 {
            for old in 0..=new {
                let proof =
                    consistency_path(old, new, |at| nodes.get(&(at.level, at.index)).copied().ok_or(())).unwrap();
                let (from, to) = (sizes[old as usize], sizes[new as usize]);
                assert!(consistent(old, &from, new, &to, &proof), "{old} to {new}");
                if old == 0 {
                    assert!(!consistent(old, &from, new, &to, &[from]));
                    continue;
                }
                assert!(!consistent(old, &[7; 32], new, &to, &proof));
                assert!(!consistent(old, &from, new, &[7; 32], &proof));
                for at in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[at][0] ^= 1;
                    assert!(!consistent(old, &from, new, &to, &bad));
                    bad.remove(at);
                    assert!(!consistent(old, &from, new, &to, &bad));
                }
            }
        }
    }
}
