//! Consistency proofs: that the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962 section 2.1.2).

use super::{Hash, Node, node_hash, range_root, split};

/// The consistency proof between the trees of `old` and of `new` leaves, from stored nodes; in the order of RFC 6962. Empty
/// where nothing is to be proven: for `old` 0 and for `old` equal to `new`. Reads O(log² n) nodes.
///
/// # Errors
/// Whatever `node` returns. With `old` beyond `new` there is no proof; the empty one that is returned verifies nowhere.
pub fn consistency_path<E>(old: u64, new: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    // SUBPROOF(left, D[first .. first + count], whole), from the root down; the proof is the other way round.
    let (mut left, mut first, mut count, mut whole) = (old, 0, new, true);
    while left < count {
        let k = split(count);
        if left <= k {
            path.push(range_root(first + k, count - k, &mut node)?);
            count = k;
        } else {
            path.push(range_root(first, k, &mut node)?);
            left -= k;
            first += k;
            count -= k;
            whole = false;
        }
    }
    if !whole {
        path.push(range_root(first, count, &mut node)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that the tree of `new` leaves with root `new_root` begins with the tree of `old` leaves with root
/// `old_root` (RFC 9162 section 2.1.4.2). The empty tree is the beginning of every tree, and its proof is empty.
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == super::RightEdge::default().root();
    }
    let mut rest = path.iter();
    // Where the old tree is a complete subtree, its root is the first element, and the proof leaves it out.
    let seed = match old.is_power_of_two() {
        true => old_root,
        false => match rest.next() {
            Some(first) => first,
            None => return false,
        },
    };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::super::{RightEdge, leaf_hash};
    use super::*;
    use crate::hex::Hex;

    struct Tree {
        nodes: HashMap<(u8, u64), Hash>,
        roots: Vec<Hash>,
    }

    impl Tree {
        fn new(leaves: impl IntoIterator<Item = Hash>) -> Self {
            let mut edge = RightEdge::default();
            let (mut nodes, mut roots) = (HashMap::new(), vec![edge.root()]);
            for leaf in leaves {
                edge.append(leaf, |node, hash| {
                    nodes.insert((node.level, node.index), *hash);
                });
                roots.push(edge.root());
            }
            Self { nodes, roots }
        }

        fn path(&self, old: u64, new: u64) -> Vec<Hash> {
            consistency_path(old, new, |n| Ok::<_, Infallible>(self.nodes[&(n.level, n.index)])).unwrap()
        }

        fn root(&self, size: u64) -> &Hash {
            &self.roots[usize::try_from(size).unwrap()]
        }
    }

    /// Of the reference implementation of RFC 6962 (certificate-transparency, merkletree tests).
    #[test]
    fn known_answers_of_rfc_6962() {
        let tree = Tree::new(super::super::tests::LEAVES.iter().map(|leaf| {
            let data: crate::hex::HexBytes = leaf.parse().unwrap();
            leaf_hash(&data.0)
        }));
        let cases: [(u64, u64, &[&str]); 6] = [
            (1, 1, &[]),
            (0, 8, &[]),
            (
                1,
                8,
                &[
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                &[
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                &[
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
            (
                6,
                7,
                &[
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
        ];
        for (old, new, wanted) in cases {
            let path = tree.path(old, new);
            let text: Vec<String> = path.iter().map(|hash| Hex(*hash).to_string()).collect();
            assert_eq!(text, wanted, "{old} to {new}");
            assert!(verify_consistency(old, tree.root(old), new, tree.root(new), &path));
        }
    }

    #[test]
    fn every_pair_of_sizes() {
        let tree = Tree::new((0..70u64).map(|n| leaf_hash(&n.to_be_bytes())));
        for new in 0..=70u64 {
            for old in 0..=new {
                let path = tree.path(old, new);
                assert!(verify_consistency(old, tree.root(old), new, tree.root(new), &path), "{old} to {new}");
                if old > 0 && old < new {
                    let wrong = leaf_hash(b"x");
                    assert!(!verify_consistency(old, &wrong, new, tree.root(new), &path));
                    assert!(!verify_consistency(old, tree.root(old), new, &wrong, &path));
                    assert!(!verify_consistency(old, tree.root(old), new, tree.root(new), &path[1..]));
                    let longer = [path.as_slice(), &[wrong]].concat();
                    assert!(!verify_consistency(old, tree.root(old), new, tree.root(new), &longer));
                    for at in 0..path.len() {
                        let mut bad = path.clone();
                        bad[at][0] ^= 1;
                        assert!(!verify_consistency(old, tree.root(old), new, tree.root(new), &bad));
                    }
                }
                assert!(old == new || !verify_consistency(new, tree.root(new), old, tree.root(old), &path));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A proof verifies exactly when recomputing both trees says that one begins with the other.
        #[test]
        fn agrees_with_recomputation(new in 1u64..600, old in 0u64..600, changed in proptest::option::of(0u64..600)) {
            let old = old.min(new);
            let leaf = |n: u64| leaf_hash(&n.to_be_bytes());
            let tree = Tree::new((0..new).map(leaf));
            let other = Tree::new((0..new).map(|n| if Some(n) == changed { leaf_hash(b"x") } else { leaf(n) }));
            let same = changed.is_none_or(|n| n >= old);
            prop_assert_eq!(tree.root(old) == other.root(old), same);
            let path = other.path(old, new);
            prop_assert_eq!(verify_consistency(old, tree.root(old), new, other.root(new), &path), same);
        }
    }
}
