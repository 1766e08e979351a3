//! Our own JSON API: types and client.
