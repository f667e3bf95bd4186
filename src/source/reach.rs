//! How far one job's fetch may go: by the operator's lists, and by the addresses that the job's host turns out to have.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::{Host, Url};

use super::site::{HostRule, matching_rule};
use super::zone::{Zone, zone_here};
use crate::config::{GitConfig, PrivateHosts};

/// The nearest zone that a job's host may lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    nearest: Zone,
    /// The operator named this host: the job's user may be told all that it answers.
    is_named: bool,
}

impl Reach {
    pub(super) fn of(url: &Url, config: &GitConfig) -> Reach {
        let is_githubs =
            url.host() == config.github_url.host() && url.port_or_known_default() == config.github_url.port_or_known_default();
        let rule = if is_githubs { Some(HostRule::Exact) } else { matching_rule(&config.allowed_hosts, url) };
        let nearest = match (config.private_hosts, rule) {
            (PrivateHosts::All, _) | (_, Some(HostRule::Exact)) => Zone::Host,
            // A domain's hosts are many; none of them is meant to be this worker's own.
            (_, Some(HostRule::Domain)) | (PrivateHosts::Lan, None) => Zone::Private,
            (PrivateHosts::None, None) => Zone::Public,
        };
        Reach { nearest, is_named: rule.is_some() || config.private_hosts == PrivateHosts::All }
    }

    fn allows(self, zone: Zone) -> bool {
        zone != Zone::Forbidden && zone <= self.nearest
    }
}

/// Names that have shown an address that is not public. A request that goes over a connection of an earlier one resolves nothing,
/// so it knows from here alone that its host is private.
#[derive(Debug, Default)]
pub(super) struct PrivateNames(Mutex<HashSet<String>>);

/// Above so many all are forgotten. A connection is kept for seconds, so only a name of just before could be missed.
const MOST_NAMES: usize = 10_000;

impl PrivateNames {
    fn add(&self, name: &str) {
        let mut names = self.names();
        if names.len() >= MOST_NAMES {
            names.clear();
        }
        names.insert(plain(name));
    }
    fn contains(&self, name: &str) -> bool {
        self.names().contains(&plain(name))
    }
    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One fetch's view of its host: what it may reach, and what it has met.
#[derive(Debug)]
pub(super) struct Destination {
    host: String,
    reach: Reach,
    /// An address of the host is not public.
    is_private: AtomicBool,
    private_names: Arc<PrivateNames>,
}

tokio::task_local! {
    /// The fetch that the current request belongs to. The resolver serves all fetches of one client, and each has a reach of its own.
    pub(super) static DESTINATION: Arc<Destination>;
}

impl Destination {
    /// `private_names`: those of the client that the fetch's requests go through.
    pub(super) fn new(url: &Url, reach: Reach, private_names: &Arc<PrivateNames>) -> Self {
        let host = url.host_str().unwrap_or_default().to_owned();
        Self { host, reach, is_private: AtomicBool::new(false), private_names: Arc::clone(private_names) }
    }

    /// Refuses a host that is written as an address out of reach. Names are looked at when they are resolved.
    pub(super) fn admit_literal(&self, url: &Url) -> Result<(), Zone> {
        match url.host() {
            Some(Host::Ipv4(ip)) => self.admit(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => self.admit(IpAddr::V6(ip)),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Whether the connection may be made to an address of this fetch's host. `Err`: where it lies.
    pub(super) fn admit(&self, ip: IpAddr) -> Result<(), Zone> {
        let zone = zone_here(ip);
        if zone > Zone::Public {
            self.is_private.store(true, Ordering::Relaxed);
            self.private_names.add(&self.host);
        }
        if self.reach.allows(zone) { Ok(()) } else { Err(zone) }
    }

    /// Whether `name` is the fetch's own host. Any other name is a proxy's, which the operator chose.
    pub(super) fn is(&self, name: &str) -> bool {
        plain(name) == plain(&self.host)
    }

    /// Whether the job's user may be told what the host answers before it has proved to be a git server.
    pub(super) fn keeps_its_answers(&self) -> bool {
        !self.reach.is_named && (self.is_private.load(Ordering::Relaxed) || self.private_names.contains(&self.host))
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(private_hosts: PrivateHosts, allowed: &[&str]) -> GitConfig {
        GitConfig {
            allowed_hosts: allowed.iter().map(|h| (*h).to_owned()).collect(),
            private_hosts,
            github_url: "http://127.0.0.1:3000".parse().expect("a URL"),
            idle_timeout: Duration::from_secs(1),
            min_rate: 0,
            max_fetch_bytes: 1,
            max_files: 1,
            max_file_bytes: 1,
            cache_max_bytes: 1,
        }
    }

    /// `None`: let in.
    fn refused(url: &str, config: &GitConfig) -> Option<Zone> {
        let url: Url = url.parse().expect("a URL");
        Destination::new(&url, Reach::of(&url, config), &Arc::default()).admit_literal(&url).err()
    }

    const OWN: [&str; 9] = [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1:8080/",
        "http://0/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
    ];

    #[test]
    fn by_default_private_networks_are_asked_and_this_host_is_not() {
        let lan = config(PrivateHosts::Lan, &[]);
        for url in OWN {
            assert_eq!(refused(url, &lan), Some(Zone::Host), "{url}");
        }
        assert_eq!(refused("http://10.1.2.3/", &lan), None);
        assert_eq!(refused("http://8.8.8.8/", &lan), None);
    }

    #[test]
    fn none_keeps_jobs_out_of_private_networks_and_all_lets_them_in_everywhere() {
        let none = config(PrivateHosts::None, &[]);
        for url in ["http://10.1.2.3/", "http://192.168.0.1/", "http://[fd12::1]/", "http://100.64.0.1/"] {
            assert_eq!(refused(url, &none), Some(Zone::Private), "{url}");
        }
        assert_eq!(refused("http://8.8.8.8/", &none), None);
        let all = config(PrivateHosts::All, &[]);
        for url in OWN {
            assert_eq!(refused(url, &all), None, "{url}");
        }
        assert_eq!(refused("http://169.254.169.254/", &all), Some(Zone::Forbidden));
    }

    #[test]
    fn a_host_that_the_operator_names_is_asked_wherever_it_is() {
        let named = config(PrivateHosts::None, &["127.0.0.1:8080", "10.1.2.3"]);
        assert_eq!(refused("http://127.0.0.1:8080/", &named), None);
        assert_eq!(refused("http://127.0.0.1:8081/", &named), Some(Zone::Host));
        assert_eq!(refused("http://10.1.2.3/", &named), None);
        // GITHUB_URL's own server, and no other port of it.
        assert_eq!(refused("http://127.0.0.1:3000/", &named), None);
        assert_eq!(refused("http://127.0.0.1/", &named), Some(Zone::Host));
    }

    #[test]
    fn a_domain_that_the_operator_names_reaches_private_networks_but_not_this_host() {
        let url: Url = "http://git.corp.example/".parse().expect("a URL");
        let reach = Reach::of(&url, &config(PrivateHosts::None, &["*.corp.example"]));
        let destination = Destination::new(&url, reach, &Arc::default());
        assert_eq!(destination.admit("10.0.0.1".parse().expect("an address")), Ok(()));
        assert_eq!(destination.admit("127.0.0.1".parse().expect("an address")), Err(Zone::Host));
        assert!(!destination.keeps_its_answers());
    }

    #[test]
    fn a_name_that_an_earlier_fetch_found_private_keeps_its_answers_though_nothing_is_resolved_anew() {
        let url: Url = "http://pooled.internal.example/".parse().expect("a URL");
        let names = Arc::default();
        let destination = || Destination::new(&url, Reach::of(&url, &config(PrivateHosts::Lan, &[])), &names);
        assert!(!destination().keeps_its_answers());
        assert!(destination().admit([10, 0, 0, 9].into()).is_ok());
        assert!(destination().keeps_its_answers());
    }

    #[test]
    fn only_a_private_host_that_nobody_named_keeps_its_answers() {
        let keeps = |url: &str, config: &GitConfig| {
            let url: Url = url.parse().expect("a URL");
            let destination = Destination::new(&url, Reach::of(&url, config), &Arc::default());
            let _ = destination.admit_literal(&url);
            destination.keeps_its_answers()
        };
        assert!(keeps("http://10.1.2.3/", &config(PrivateHosts::Lan, &[])));
        assert!(!keeps("http://8.8.8.8/", &config(PrivateHosts::Lan, &[])));
        assert!(!keeps("http://10.1.2.3/", &config(PrivateHosts::Lan, &["10.1.2.3"])));
        assert!(!keeps("http://10.1.2.3/", &config(PrivateHosts::All, &[])));
    }
}
