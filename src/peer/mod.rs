//! Those that Slipway talks to over a network, and their health: which does not answer, and when it may be asked again.
//!
//! [`OperatorHosts`] (PURE) tells the operator's hosts from those that a job names: only for the operator's is a circuit kept; of the
//! others [`KnownHosts`] remembers how they have done lately.
//!
//! [`Circuit`] (PURE) decides for one peer; [`Peers`] has one for each that stages talk to, shared by all jobs. The dashboard's is in `report`.

mod blame;
mod certificate;
mod circuit;
mod known_hosts;
mod peers;
mod proxy;
mod retry_after;

pub use blame::{OperatorHosts, blames_a_host, image_host, registry_host, settle};
pub use certificate::{CertificateProblem, ServerSettings, certificate_error, inner_error};
pub use circuit::{Change, Circuit};
pub use known_hosts::{KnownHosts, Standing};
pub use peers::{Peer, Peers, Turn, blames_a_peer};
pub use proxy::{is_loopback, proxy_before};
pub use retry_after::{RETRY_AFTER_MAX, parse_retry_after, retry_after};
