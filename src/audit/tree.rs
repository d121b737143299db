//! The right edge of an RFC 6962 Merkle tree: enough to append leaves and to know the root, in constant memory.

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
        let mut right = leaf;
        let mut rest = self.size;
        while rest & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                right = node(&left, &right);
            }
            rest >>= 1;
        }
        self.peaks.push(right);
        self.size += 1;
    }

    /// The root of the tree; `SHA-256("")` when it is empty.
    #[must_use]
    pub(crate) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Hash::of(&[]),
            Some(smallest) => peaks.fold(*smallest, |right, left| node(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
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
}
