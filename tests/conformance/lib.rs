//! What the RFCs promise a client, against the real binary over real sockets; the tests are in `main.rs`.
