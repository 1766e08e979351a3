//! Bad input for every parser that meets the network: kept samples, mutated by chance from a seed, and what must
//! hold whatever comes.
//!
//! A [`Target`] is one way in. It reads octets and asserts what its reader promises: nothing panics, time and memory
//! stay bounded, and what is taken is seen in the same way by a reader that is none of ours. Its kept samples lie in
//! `corpus/`, in the folder of its name: good ones, and those that other servers tripped over.
//!
//! As a test each target reads a fixed number of inputs, the same in every run. With `CHANCERY_FUZZ_SECONDS=600` it
//! goes on for that long, from another seed each time (`CHANCERY_FUZZ_SEED` gives one). An input that breaks
//! something is made shorter, written to a file, and named with its seed; it belongs into `corpus/` with the repair.
//! Where a process dies without a word, `CHANCERY_FUZZ_TRACE=1` writes every input down before it is read.
//!
//! It does not know which code an input reaches. In its place stand the words with which it was refused: an input
//! that is refused in a new way is mutated further. Every target is a plain function, so that a fuzzer which knows
//! better can drive it too.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "only tests use it; what must hold and does not is a panic"
)]

mod elements;
mod mutate;
mod run;
pub mod targets;
pub mod tree;

pub use mutate::Form;
pub use run::{Report, corpus};

/// What a target made of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken, and what must hold of it held.
    Taken,
    /// It was refused, in these words.
    Refused(String),
}

impl Verdict {
    /// Refused, in the words of an error.
    pub fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }
}

/// One way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads an input and asserts what must hold.
    pub read: fn(&[u8]) -> Verdict,
    /// What its samples look like inside.
    pub form: Form,
    /// Words that mean something to its reader.
    pub words: &'static [&'static [u8]],
    /// How many mutations a test reads.
    pub mutations: u64,
    /// Longest input, in octets.
    pub longest: usize,
    /// Most memory that one input may take at a time, in octets.
    pub memory: u64,
}
