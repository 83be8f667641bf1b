//! The Merkle tree of RFC 6962 section 2: hashes, the right edge for appending in O(log n), audit paths, and consistency proofs.

mod consistency;

use sha2::{Digest, Sha256};

pub use consistency::{consistency_path, verify_consistency};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// Hash of a leaf: SHA-256(0x00, data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// Hash of a node: SHA-256(0x01, left, right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A complete subtree: the `index`-th one of 2^`level` leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// From 0, left to right.
    pub index: u64,
}

/// The right edge of a tree: the roots of the complete subtrees that make it up, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: u64,
    subtrees: Vec<Hash>,
}

impl RightEdge {
    /// The edge of a tree of `size` leaves, from its stored nodes.
    ///
    /// # Errors
    /// Whatever `node` returns.
    pub fn load<E>(size: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Self, E> {
        let mut subtrees = Vec::new();
        for level in (0..64u8).rev() {
            if size >> level & 1 == 1 {
                subtrees.push(node(Node { level, index: (size >> level) - 1 })?);
            }
        }
        Ok(Self { size, subtrees })
    }

    /// The edge of a tree of `size` leaves, from the hashes of [`RightEdge::subtrees`]; none if there are not as many as it takes.
    #[must_use]
    pub fn from_subtrees(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// The roots of the complete subtrees, largest first.
    #[must_use]
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash; tells every subtree that becomes complete by it, the leaf first.
    pub fn append(&mut self, leaf: Hash, mut complete: impl FnMut(Node, &Hash)) {
        let mut hash = leaf;
        let mut level = 0;
        complete(Node { level, index: self.size }, &hash);
        while self.size >> level & 1 == 1 {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            complete(Node { level, index: self.size >> level }, &hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root; of the empty tree SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut from_right = self.subtrees.iter().rev().copied();
        match from_right.next() {
            Some(last) => from_right.fold(last, |right, left| node_hash(&left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

/// Largest power of two below `n` (n > 1).
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

fn range_root<E>(first: u64, count: u64, node: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    if count.is_power_of_two() {
        let level = u8::try_from(count.trailing_zeros()).unwrap_or(u8::MAX);
        return node(Node { level, index: first >> level });
    }
    let k = split(count);
    Ok(node_hash(&range_root(first, k, node)?, &range_root(first + k, count - k, node)?))
}

/// The audit path of leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1), from stored nodes; leaf to root.
///
/// # Errors
/// Whatever `node` returns.
pub fn audit_path<E>(index: u64, size: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    let mut path = Vec::new();
    let (mut first, mut count) = (0, size);
    while count > 1 {
        let k = split(count);
        if index - first < k {
            path.push(range_root(first + k, count - k, &mut node)?);
            count = k;
        } else {
            path.push(range_root(first, k, &mut node)?);
            first += k;
            count -= k;
        }
    }
    path.reverse();
    Ok(path)
}

/// The root that `path` leads to from leaf `index` of `size` (RFC 9162 section 2.1.3.2); none when the path has the wrong length.
#[must_use]
pub fn root_from_path(index: u64, size: u64, leaf: Hash, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;
    use crate::hex::Hex;

    /// Inputs and roots of the reference implementation of RFC 6962 (certificate-transparency, merkletree tests).
    pub(super) const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn known_answers_of_rfc_6962() {
        let mut edge = RightEdge::default();
        assert_eq!(Hex(edge.root()).to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (leaf, root) in LEAVES.iter().zip(ROOTS) {
            let data: crate::hex::HexBytes = leaf.parse().unwrap();
            edge.append(leaf_hash(&data.0), |_, _| {});
            assert_eq!(Hex(edge.root()).to_string(), root);
        }
    }

    /// The definition, as RFC 6962 has it.
    fn slow_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(usize::try_from(split(many.len() as u64)).unwrap());
                node_hash(&slow_root(left), &slow_root(right))
            }
        }
    }

    #[test]
    fn edge_and_paths_agree_with_the_definition() {
        let mut edge = RightEdge::default();
        let mut nodes = HashMap::new();
        let mut leaves = Vec::new();
        for n in 0..130u64 {
            let leaf = leaf_hash(&n.to_be_bytes());
            leaves.push(leaf);
            edge.append(leaf, |node, hash| assert!(nodes.insert((node.level, node.index), *hash).is_none()));
            let root = slow_root(&leaves);
            assert_eq!(edge.root(), root);
            let stored = |node: Node| Ok::<_, Infallible>(nodes[&(node.level, node.index)]);
            assert_eq!(RightEdge::load(n + 1, stored).unwrap(), edge);
            for index in 0..=n {
                let path = audit_path(index, n + 1, stored).unwrap();
                let leaf = leaves[usize::try_from(index).unwrap()];
                assert_eq!(root_from_path(index, n + 1, leaf, &path), Some(root));
                assert_ne!(root_from_path(index, n + 1, leaf_hash(b"x"), &path), Some(root));
                if !path.is_empty() {
                    assert_ne!(root_from_path(index, n + 1, leaf, &path[1..]), Some(root));
                }
            }
            assert_eq!(root_from_path(n + 1, n + 1, leaf, &[]), None);
        }
    }
}
