//! The one guarded dialer for everything outgoing.
//!
//! A name is resolved once, every address that came back is checked against its zone and the
//! guard, and that very address is dialled: nothing is looked up a second time, so a name that
//! changes between the check and the dial changes nothing. Every hop of a redirect is a new
//! [`Dialer::dial`] with all of it again. Proxies are never used; the environment is not read.
//!
//! Errors name hosts and addresses, never a byte that a remote sent.
//!
//! It does not speak HTTP or TLS and knows nothing about challenges; a caller gets a
//! [`Connection`] and talks over it.

mod counters;
mod dial;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod host;
mod resolve;
mod targets;
mod zone;

pub use counters::{Counter, Counters};
pub use dial::{Connection, DialError, DialSettings, Dialer, Origin};
pub use guard::{Guard, Refused, Why};
pub use host::{Host, HostRejection};
pub use resolve::{LookupError, LookupFailure};
pub use zone::{Ports, Zone, ZoneRejection, ZoneSpec, ZoneTable};
