//! The one guarded dialer for everything outgoing.
