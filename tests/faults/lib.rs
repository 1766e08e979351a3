//! Kills, failing system calls, flipped bytes and power cuts; the tests are in `main.rs`.
