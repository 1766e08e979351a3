//! Real ACME clients against the real binary; the tests are in `main.rs`.
