//! Those that Slipway talks to over a network, and their health: which does not answer, and when it may be asked again.
//!
//! [`Circuit`] (PURE) decides for one peer; [`Peers`] has one for each that stages talk to, shared by all jobs. The dashboard's is in `report`.

mod circuit;
mod peers;
mod proxy;
mod retry_after;

pub use circuit::{Change, Circuit};
pub use peers::{Peer, Peers, Turn, blames_a_peer};
pub use proxy::{is_loopback, proxy_before};
pub use retry_after::{RETRY_AFTER_MAX, parse_retry_after, retry_after};
