//! How much is open at once: in all, and from each source.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Places for connections or requests. How many there are is said by who takes one, since settings change.
#[derive(Debug, Default)]
pub(super) struct Places(AtomicUsize);

impl Places {
    /// Takes a place, if fewer than `most` are taken.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken < most).then(|| taken + 1)
        });
        taken.is_ok().then(|| Place(self.clone()))
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many connections, or requests, each source has open.
#[derive(Debug, Default)]
pub(super) struct Sources(Mutex<HashMap<IpAddr, usize>>);

impl Sources {
    /// Takes one more from `ip` in, if fewer than `most` are open.
    pub(super) fn admit(self: &Arc<Self>, ip: IpAddr, most: usize) -> Option<FromSource> {
        let source = network(ip);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(FromSource {
            sources: self.clone(),
            source,
        })
    }
}

/// The address (IPv4) or /64 (IPv6) that a person usually has to herself.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

/// One of a source's, until it is dropped.
#[derive(Debug)]
pub(super) struct FromSource {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Drop for FromSource {
    fn drop(&mut self) {
        let mut open = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(self.source) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_leaves_nothing_behind() {
        let sources = Arc::new(Sources::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = sources.admit(ip("2001:db8::1"), 1).unwrap();
        assert!(sources.admit(ip("2001:db8::2"), 1).is_none());
        let other = sources.admit(ip("2001:db8:0:1::2"), 1).unwrap();
        assert!(sources.admit(ip("2001:db8::2"), 2).is_some());
        drop((one, other));
        assert!(sources.0.lock().unwrap().is_empty());
    }

    #[test]
    fn places_come_back_and_fewer_of_them_take_nothing_away() {
        let places = Arc::new(Places::default());
        let held: Vec<_> = (0..3).map(|_| places.take(3).unwrap()).collect();
        assert!(places.take(3).is_none());
        assert!(places.take(2).is_none());
        assert!(places.take(4).is_some());
        drop(held);
        assert!(places.take(1).is_some());
    }
}
