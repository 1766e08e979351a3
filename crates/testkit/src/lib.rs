//! Builders, frozen clock, seeded entropy, memory store, fake signer and validator.
