//! The terms in which controllers lead: whoever was followed by another is refused.
//!
//! A term is one of a Lease, and terms of two Leases are not compared. The counts are those of one process, and what
//! has not asked for a while counts no more: what a request led to is durable, so that a leader who comes late after a
//! restart gets what there is and changes nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use chancery_pki::Timestamp;

use crate::issue::sha256;

/// How long a term that does not ask any more shuts out those before it: some twenty times a Lease's usual duration.
pub(crate) const TERM_HOLDS: Duration = Duration::from_secs(300);
/// Most credentials and clusters whose terms are remembered; past it new ones are not compared.
const ASKERS_MAX: usize = 4096;
/// Most Leases of each; past it the one that has been silent longest is forgotten.
const LEASES_MAX: usize = 8;
/// Most UIDs that one Lease had before.
const FORMER_MAX: usize = 8;

/// A controller's leadership, as it tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Its number, growing with each election by the same Lease.
    pub number: u64,
    /// The Lease. Those who name none share one count.
    pub lease: Option<Lease>,
}

/// A Lease of `coordination.k8s.io`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its namespace and name.
    pub name: String,
    /// Its UID: under another one it was made anew, and counts from the beginning.
    pub uid: String,
}

/// Why a leadership is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// This term of the same Lease has asked since.
    Term(u64),
    /// The Lease was made anew, and whoever holds the new one has asked since.
    Lease,
}

/// The newest terms by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Terms(HashMap<String, Vec<Count>>);

/// What a Lease is known by: names are as long as whoever sends them likes.
type Digest = [u8; 32];

#[derive(Debug)]
struct Count {
    name: Digest,
    uid: Digest,
    /// UIDs that it had before.
    former: VecDeque<Digest>,
    newest: u64,
    asked: Timestamp,
}

impl Count {
    fn holds(&self, now: Timestamp) -> bool {
        now < self.asked.after(TERM_HOLDS)
    }
}

impl Terms {
    /// Remembers that somebody asks in this term.
    ///
    /// # Errors
    ///
    /// [`Over`] where somebody else was made leader since; then nothing changes.
    pub(crate) fn ask(&mut self, whose: String, term: &Term, now: Timestamp) -> Result<(), Over> {
        if self.0.len() >= ASKERS_MAX && !self.0.contains_key(&whose) {
            self.0.retain(|_, counts| counts.iter().any(|count| count.holds(now)));
            if self.0.len() >= ASKERS_MAX {
                return Ok(());
            }
        }
        let (name, uid) = match &term.lease {
            Some(Lease { name, uid }) => (sha256(name.as_bytes()), sha256(uid.as_bytes())),
            None => Default::default(),
        };
        let counts = self.0.entry(whose).or_default();
        counts.retain(|count| count.holds(now));
        let Some(count) = counts.iter_mut().find(|count| count.name == name) else {
            if counts.len() >= LEASES_MAX {
                let silent = counts.iter().enumerate().min_by_key(|(_, count)| count.asked);
                silent.map(|(at, _)| at).map(|at| counts.swap_remove(at));
            }
            counts.push(Count { name, uid, former: VecDeque::new(), newest: term.number, asked: now });
            return Ok(());
        };
        if count.uid == uid {
            if term.number < count.newest {
                return Err(Over::Term(count.newest));
            }
        } else {
            if count.former.contains(&uid) {
                return Err(Over::Lease);
            }
            if count.former.len() >= FORMER_MAX {
                count.former.pop_front();
            }
            count.former.push_back(count.uid);
            count.uid = uid;
        }
        (count.newest, count.asked) = (term.number, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);

    fn of(name: &str, uid: &str, number: u64) -> Term {
        Term { number, lease: Some(Lease { name: name.to_owned(), uid: uid.to_owned() }) }
    }

    fn ask(terms: &mut Terms, term: &Term) -> Result<(), Over> {
        terms.ask("prod-eu".to_owned(), term, START)
    }

    #[test]
    fn a_lease_that_was_made_anew_counts_from_the_beginning_and_the_old_one_is_over() {
        let mut terms = Terms::default();
        ask(&mut terms, &of("a/issuer", "1", 7)).unwrap();
        ask(&mut terms, &of("a/issuer", "2", 1)).unwrap();
        assert_eq!(ask(&mut terms, &of("a/issuer", "1", 8)), Err(Over::Lease), "whatever its term");
        ask(&mut terms, &of("a/issuer", "2", 2)).unwrap();
        assert_eq!(ask(&mut terms, &of("a/issuer", "2", 1)), Err(Over::Term(2)));
        ask(&mut terms, &of("a/issuer", "3", 1)).unwrap();
        for uid in ["1", "2"] {
            assert_eq!(ask(&mut terms, &of("a/issuer", uid, 9)), Err(Over::Lease));
        }
    }

    #[test]
    fn controllers_with_two_leases_do_not_shut_one_another_out() {
        let mut terms = Terms::default();
        for _ in 0..2 {
            ask(&mut terms, &of("a/issuer", "1", 7)).unwrap();
            ask(&mut terms, &of("b/issuer", "2", 1)).unwrap();
            ask(&mut terms, &Term { number: 3, lease: None }).unwrap();
        }
        assert_eq!(ask(&mut terms, &of("a/issuer", "1", 6)), Err(Over::Term(7)));
        assert_eq!(ask(&mut terms, &Term { number: 2, lease: None }), Err(Over::Term(3)));
    }

    #[test]
    fn nobody_makes_more_of_it_than_is_remembered_and_whoever_asks_lately_stays() {
        let mut terms = Terms::default();
        let later = START.after(Duration::from_secs(1));
        terms.ask("prod-eu".to_owned(), &of("a/issuer", "1", 7), later).unwrap();
        for number in 0..100 {
            terms.ask("prod-eu".to_owned(), &of(&format!("invented/{number}"), "x", 1), START).unwrap();
        }
        assert_eq!(terms.ask("prod-eu".to_owned(), &of("a/issuer", "1", 6), later), Err(Over::Term(7)));
        assert!(terms.0["prod-eu"].len() <= LEASES_MAX);
        for uid in 0..100 {
            terms.ask("prod-eu".to_owned(), &of("a/issuer", &format!("u{uid}"), 1), later).unwrap();
        }
        assert!(terms.0["prod-eu"].iter().all(|count| count.former.len() <= FORMER_MAX));
        for number in 0..ASKERS_MAX + 100 {
            terms.ask(format!("prod-us\n{number}"), &of("a/issuer", "1", 7), later).unwrap();
        }
        assert!(terms.0.len() <= ASKERS_MAX);
        // What is over makes room.
        let over = later.after(TERM_HOLDS);
        terms.ask("new".to_owned(), &of("a/issuer", "1", 7), over).unwrap();
        assert_eq!(terms.ask("new".to_owned(), &of("a/issuer", "1", 6), over), Err(Over::Term(7)));
    }
}
