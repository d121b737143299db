//! The Merkle tree of RFC 6962: its right edge (enough to append leaves and to know the root, in constant memory), which
//! subtrees a proof consists of, and what a proof shows.

use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256};

use crate::record::Hash;

/// Hash of a leaf: `SHA-256(0x00 || record)` (RFC 6962 section 2.1).
#[must_use]
pub(crate) fn leaf(record: &[u8]) -> Hash {
    digest(&[&[0], record])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    digest(&[&[1], &left.0, &right.0])
}

fn digest(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = Hash::default();
    hash.0.copy_from_slice(context.finish().as_ref());
    hash
}

/// The roots of the complete subtrees along the right edge, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    peaks: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree of `size` leaves. `None` unless there is one peak for each bit set in `size`.
    #[must_use]
    pub(crate) fn new(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(peaks.len())).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    #[must_use]
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The complete subtrees, largest first.
    #[must_use]
    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf, given its hash.
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.push_seen(leaf, |_, _| {});
    }

    /// Appends a leaf; `seen` is shown every subtree that it completes, the leaf itself first.
    pub(crate) fn push_seen(&mut self, leaf: Hash, mut seen: impl FnMut(Node, Hash)) {
        let (mut right, mut level, mut index) = (leaf, 0, self.size);
        seen(Node { level, index }, right);
        while index & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                right = node(&left, &right);
            }
            (level, index) = (level + 1, index >> 1);
            seen(Node { level, index }, right);
        }
        self.peaks.push(right);
        self.size += 1;
    }

    /// The root of the tree; `SHA-256("")` when it is empty.
    #[must_use]
    pub(crate) fn root(&self) -> Hash {
        joined(&self.peaks).unwrap_or_else(|| Hash::of(&[]))
    }
}

/// The root over neighbouring complete subtrees, largest first. `None` when there are none.
pub(crate) fn joined(subtrees: &[Hash]) -> Option<Hash> {
    let (smallest, larger) = subtrees.split_last()?;
    Some(
        larger
            .iter()
            .rev()
            .fold(*smallest, |right, left| node(left, &right)),
    )
}

/// A complete subtree: the leaves from `index << level` to `(index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    level: u32,
    index: u64,
}

impl Node {
    /// Position of its last leaf, which completes it.
    pub(crate) const fn last(self) -> u64 {
        (self.index << self.level) + ((1 << self.level) - 1)
    }

    /// The complete subtrees that a subtree of a proof consists of, largest first.
    pub(crate) fn of(leaves: &Range<u64>) -> Vec<Self> {
        let mut nodes = Vec::new();
        let mut at = leaves.start;
        while let Some(level) = leaves.end.saturating_sub(at).checked_ilog2() {
            let level = level.min(at.trailing_zeros());
            nodes.push(Self {
                level,
                index: at >> level,
            });
            at += 1 << level;
        }
        nodes
    }
}

/// Where RFC 6962 divides `count` leaves (two at least): the largest power of two below.
fn half(count: u64) -> u64 {
    1 << (count.max(2) - 1).ilog2()
}

/// The subtrees whose roots show that leaf `index` is in a tree of `size`, in the order of the proof (RFC 6962 section
/// 2.1.1). Empty when it is not.
pub(crate) fn inclusion(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut within, mut subtrees) = (0..size, Vec::new());
    while within.contains(&index) && within.end - within.start > 1 {
        let middle = within.start + half(within.end - within.start);
        if index < middle {
            subtrees.push(middle..within.end);
            within.end = middle;
        } else {
            subtrees.push(within.start..middle);
            within.start = middle;
        }
    }
    subtrees.reverse();
    subtrees
}

/// The subtrees whose roots show that a tree of `size` continues its first `old` leaves (RFC 6962 section 2.1.2).
pub(crate) fn consistency(old: u64, size: u64) -> Vec<Range<u64>> {
    let (mut within, mut subtrees) = (0..size, Vec::new());
    if old == 0 || old >= size {
        return subtrees;
    }
    while old < within.end {
        let middle = within.start + half(within.end - within.start);
        if old <= middle {
            subtrees.push(middle..within.end);
            within.end = middle;
        } else {
            subtrees.push(within.start..middle);
            within.start = middle;
        }
    }
    // The old root itself is known to whoever has the old checkpoint.
    if within.start > 0 {
        subtrees.push(within);
    }
    subtrees.reverse();
    subtrees
}

/// The root of a tree of `size` that has `leaf` at `index`, by its proof. `None` when the proof is of another form.
///
/// The steps are those of RFC 9162 section 2.1.3.2.
pub(crate) fn root_by(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    let mut walk = Walk {
        at: index,
        last: size.checked_sub(1).filter(|last| index <= *last)?,
    };
    let mut root = leaf;
    for hash in proof {
        root = match walk.step()? {
            Side::Left => node(hash, &root),
            Side::Right => node(&root, hash),
        };
    }
    (walk.last == 0).then_some(root)
}

/// Whether a tree of `size` with `root` has the `old` leaves under `old_root` as its first, by `proof`.
///
/// The steps are those of RFC 9162 section 2.1.4.2.
pub(crate) fn continues(old: (u64, Hash), new: (u64, Hash), proof: &[Hash]) -> bool {
    if old.0 == 0 || old.0 == new.0 {
        return proof.is_empty() && (old.0 == 0 || old.1 == new.1);
    }
    roots_by(old, new.0, proof) == Some((old.1, new.1))
}

/// The roots of the old tree and of the new one, by a proof that one continues the other.
fn roots_by(old: (u64, Hash), size: u64, proof: &[Hash]) -> Option<(Hash, Hash)> {
    let mut walk = Walk {
        at: old.0.checked_sub(1)?,
        last: size.checked_sub(1).filter(|last| old.0 <= *last)?,
    };
    walk.shift(walk.at.trailing_ones());
    let (first, rest) = match old.0.is_power_of_two() {
        true => (old.1, proof),
        false => proof.split_first().map(|(first, rest)| (*first, rest))?,
    };
    let (mut before, mut after) = (first, first);
    for hash in rest {
        match walk.step()? {
            Side::Left => (before, after) = (node(hash, &before), node(hash, &after)),
            Side::Right => after = node(&after, hash),
        }
    }
    (walk.last == 0).then_some((before, after))
}

/// On which side a hash of a proof stands.
enum Side {
    Left,
    Right,
}

/// From a node of the tree up to its root.
struct Walk {
    at: u64,
    last: u64,
}

impl Walk {
    /// One hash further. `None` beyond the root.
    fn step(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let left = self.at & 1 == 1 || self.at == self.last;
        if left {
            // A node without a right neighbour is lifted to where it has a left one.
            self.shift(self.at.trailing_zeros().min(63));
        }
        self.shift(1);
        Some(if left { Side::Left } else { Side::Right })
    }

    const fn shift(&mut self, levels: u32) {
        self.at = match self.at.checked_shr(levels) {
            Some(at) => at,
            None => 0,
        };
        self.last = match self.last.checked_shr(levels) {
            Some(last) => last,
            None => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use tlog_tiles::tlog;

    struct Stored(Vec<tlog::Hash>);

    impl tlog::HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
            Ok(indexes
                .iter()
                .map(|at| self.0[usize::try_from(*at).unwrap()])
                .collect())
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_at_every_size() {
        let mut stored = Stored(Vec::new());
        let mut edge = Edge::default();
        assert_eq!(edge.root(), Hash::of(b""));
        for n in 0..300_u64 {
            let record = format!("record {n}");
            let hashes = tlog::stored_hashes(n, record.as_bytes(), &stored).unwrap();
            stored.0.extend(hashes);
            edge.push(leaf(record.as_bytes()));
            assert_eq!(
                edge.root().0,
                tlog::tree_hash(n + 1, &stored).unwrap().0,
                "size {}",
                n + 1
            );
            assert_eq!(Edge::new(n + 1, edge.peaks().to_vec()).as_ref(), Some(&edge));
        }
    }

    const MOST: u64 = 70;

    /// Trees of up to [`MOST`] leaves: of another implementation, the roots by size, and the nodes that ours shows.
    fn trees() -> (Stored, Vec<Hash>, BTreeMap<Node, Hash>) {
        let (mut stored, mut edge) = (Stored(Vec::new()), Edge::default());
        let (mut roots, mut nodes) = (vec![edge.root()], BTreeMap::new());
        for n in 0..MOST {
            let hashes = tlog::stored_hashes(n, &n.to_le_bytes(), &stored).unwrap();
            stored.0.extend(hashes);
            edge.push_seen(leaf(&n.to_le_bytes()), |node, hash| {
                assert!(nodes.insert(node, hash).is_none(), "{node:?} twice");
                assert_eq!(node.last(), n);
            });
            roots.push(edge.root());
        }
        (stored, roots, nodes)
    }

    fn proof(subtrees: &[Range<u64>], nodes: &BTreeMap<Node, Hash>) -> Vec<Hash> {
        let hash = |range| Node::of(range).iter().map(|node| nodes[node]).collect::<Vec<_>>();
        subtrees
            .iter()
            .map(|range| joined(&hash(range)).unwrap())
            .collect()
    }

    /// Every way to change a proof by one step.
    fn changes(proof: &[Hash]) -> Vec<Vec<Hash>> {
        let mut changes = vec![[proof, &[Hash::of(b"one more")]].concat()];
        for at in 0..proof.len() {
            let mut other = proof.to_vec();
            other[at].0[31] ^= 1;
            let mut shorter = proof.to_vec();
            shorter.remove(at);
            changes.extend([other, shorter]);
        }
        changes
    }

    #[test]
    fn every_leaf_of_every_tree_is_proved_as_another_implementation_does_and_no_other_leaf() {
        let (stored, roots, nodes) = trees();
        for size in 1..=MOST {
            let root = roots[size as usize];
            for index in 0..size {
                let proof = proof(&inclusion(index, size), &nodes);
                let other = tlog::prove_record(size, index, &stored).unwrap();
                assert_eq!(proof, other.iter().map(|hash| Hash(hash.0)).collect::<Vec<_>>());
                let hash = leaf(&index.to_le_bytes());
                assert_eq!(
                    root_by(hash, index, size, &proof),
                    Some(root),
                    "{index} in {size}"
                );
                assert_ne!(root_by(Hash::of(b"another"), index, size, &proof), Some(root));
                assert_ne!(root_by(hash, index + 1, size, &proof), Some(root));
                for changed in changes(&proof) {
                    assert_ne!(
                        root_by(hash, index, size, &changed),
                        Some(root),
                        "{index} in {size}"
                    );
                }
            }
            assert_eq!(root_by(leaf(b""), size, size, &[]), None);
            assert_eq!(inclusion(size, size), []);
        }
    }

    #[test]
    fn every_tree_continues_its_beginnings_as_another_implementation_proves_and_no_others() {
        let (stored, roots, nodes) = trees();
        for size in 1..=MOST {
            let new = (size, roots[size as usize]);
            for old in 1..=size {
                let was = (old, roots[old as usize]);
                let proof = proof(&consistency(old, size), &nodes);
                let other = tlog::prove_tree(size, old, &stored).unwrap();
                assert_eq!(
                    proof,
                    other.iter().map(|hash| Hash(hash.0)).collect::<Vec<_>>(),
                    "{old} {size}"
                );
                assert!(continues(was, new, &proof), "{old} to {size}");
                assert!(
                    !continues((old, Hash::of(b"forked")), new, &proof),
                    "{old} to {size}"
                );
                assert!(
                    !continues(was, (size, Hash::of(b"forked")), &proof),
                    "{old} to {size}"
                );
                for changed in changes(&proof) {
                    assert!(!continues(was, new, &changed), "{old} to {size}");
                }
            }
            assert!(
                continues((0, Hash::default()), new, &[]),
                "everything continues nothing"
            );
            assert!(!continues((0, Hash::default()), new, &[new.1]));
            assert!(!continues((size + 1, new.1), new, &[]), "shorter than before");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_sizes_and_hashes_make_the_verifiers_fail(
            index: u64, size: u64, old: u64, count in 0..70_usize, seed: [u8; 32],
        ) {
            let proof = vec![Hash(seed); count];
            let _ = root_by(Hash(seed), index, size, &proof);
            let _ = continues((old, Hash(seed)), (size, Hash(seed)), &proof);
            let (old, size) = (old % (1 << 62), size % (1 << 62));
            for ranges in [inclusion(old, size), consistency(old, size)] {
                proptest::prop_assert!(ranges.len() <= 64);
                for range in ranges {
                    let nodes = Node::of(&range);
                    proptest::prop_assert!(nodes.len() <= 64);
                    proptest::prop_assert_eq!(nodes.last().map(|node| node.last() + 1), Some(range.end));
                }
            }
        }
    }
}
