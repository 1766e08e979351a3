//! Starts the real binary, a DNS server and responders for black-box tests.
