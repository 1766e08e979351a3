//! The JSON API of our own, over the local socket and HTTPS.
