//! How much is on MyProxy servers at once: so much for each server, and for each person in each VO, so that nobody fills one
//! and no VO is in the way of another.
//!
//! Who puts something there holds a [`Slot`], from the plan on until the server has removed it. What a server would not
//! remove keeps its slot: it is still there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::{PersonId, VoId};

use super::DelegateError;

/// Where one thing is, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) vo: VoId,
    pub(super) upstream: String,
    /// Not known of what an older gateway left.
    pub(super) person: Option<PersonId>,
}

/// All slots, by user name on the server.
#[derive(Clone, Debug)]
pub(super) struct Room {
    taken: Arc<Mutex<HashMap<String, Taken>>>,
    per_server: usize,
    per_person: usize,
}

#[derive(Debug)]
struct Taken {
    put: Put,
    /// Whether a request, or a removal, is under way with it.
    busy: bool,
}

impl Room {
    pub(super) fn new(per_server: usize, per_person: usize) -> Self {
        Self {
            taken: Arc::default(),
            per_server,
            per_person,
        }
    }

    /// Takes a slot for something new.
    ///
    /// # Errors
    /// [`DelegateError::PersonsUploads`], [`DelegateError::ServersUploads`].
    pub(super) fn take(&self, username: &str, put: Put) -> Result<Slot, DelegateError> {
        let mut taken = self.lock();
        let of = |same: &dyn Fn(&Put) -> bool| taken.values().filter(|taken| same(&taken.put)).count();
        let hers = |other: &Put| other.person.is_some() && (other.vo, other.person) == (put.vo, put.person);
        if of(&hers) >= self.per_person {
            return Err(DelegateError::PersonsUploads(self.per_person));
        }
        if of(&|other| (other.vo, &other.upstream) == (put.vo, &put.upstream)) >= self.per_server {
            return Err(DelegateError::ServersUploads {
                server: put.upstream,
                most: self.per_server,
            });
        }
        taken.insert(username.to_owned(), Taken { put, busy: true });
        drop(taken);
        Ok(self.slot(username))
    }

    /// The slot of something that was left on its server, however many there are; `None` while somebody else holds it.
    pub(super) fn claim(&self, username: &str, put: Put) -> Option<Slot> {
        let mut taken = self.lock();
        let entry = taken
            .entry(username.to_owned())
            .or_insert(Taken { put, busy: false });
        let free = !std::mem::replace(&mut entry.busy, true);
        drop(taken);
        free.then(|| self.slot(username))
    }

    fn slot(&self, username: &str) -> Slot {
        Slot {
            room: self.clone(),
            username: username.to_owned(),
            left: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Taken>> {
        // INVARIANT: nothing panics while the table is half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one thing on a MyProxy server, free again when it is dropped.
#[derive(Debug)]
#[must_use = "the room is free again when it is dropped"]
pub struct Slot {
    room: Room,
    username: String,
    left: bool,
}

impl Slot {
    /// It could not be removed: the room stays taken, and somebody else may try.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        match taken.get_mut(&self.username) {
            Some(entry) if self.left => entry.busy = false,
            _ => drop(taken.remove(&self.username)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(vo: u128, upstream: &str, person: u128) -> Put {
        Put {
            vo: uuid::Uuid::from_u128(vo).into(),
            upstream: upstream.to_owned(),
            person: (person > 0).then(|| uuid::Uuid::from_u128(person).into()),
        }
    }

    #[test]
    fn one_person_fills_no_server_and_all_together_no_more_than_fits() {
        let room = Room::new(3, 2);
        let first = room.take("a", put(1, "vault", 7)).unwrap();
        let _second = room.take("b", put(1, "other", 7)).unwrap();
        let refused = room.take("c", put(1, "vault", 7)).unwrap_err();
        assert!(matches!(refused, DelegateError::PersonsUploads(2)), "{refused}");
        // What she does in another VO is counted there.
        drop(room.take("z", put(2, "vault", 7)).unwrap());
        let _hers = room.take("d", put(1, "vault", 8)).unwrap();
        let _his = room.take("e", put(1, "vault", 9)).unwrap();
        let refused = room.take("f", put(1, "vault", 10)).unwrap_err();
        assert!(
            matches!(&refused, DelegateError::ServersUploads { server, most: 3 } if server == "vault"),
            "{refused}"
        );
        // A server of the same name in another VO is another one.
        let _elsewhere = room.take("g", put(2, "vault", 10)).unwrap();
        drop(first);
        let _again = room.take("c", put(1, "vault", 7)).unwrap();
    }

    #[test]
    fn what_a_server_would_not_remove_keeps_its_room_until_it_is_removed() {
        let room = Room::new(10, 1);
        room.take("a", put(1, "vault", 7)).unwrap().leave();
        assert!(room.take("b", put(1, "vault", 7)).is_err());
        let claimed = room.claim("a", put(1, "vault", 7)).unwrap();
        assert!(
            room.claim("a", put(1, "vault", 7)).is_none(),
            "one removes it at a time"
        );
        drop(claimed);
        let held = room.take("b", put(1, "vault", 7)).unwrap();
        assert!(
            room.claim("b", put(1, "vault", 7)).is_none(),
            "a request is under way with it"
        );
        drop(held);
    }

    #[test]
    fn what_was_left_before_the_start_counts_too() {
        let room = Room::new(2, 2);
        for name in ["a", "b", "c"] {
            room.claim(name, put(1, "vault", 0)).unwrap().leave();
        }
        let refused = room.take("d", put(1, "vault", 7)).unwrap_err();
        assert!(
            matches!(refused, DelegateError::ServersUploads { .. }),
            "{refused}"
        );
    }
}
