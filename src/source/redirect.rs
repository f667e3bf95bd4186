//! PURE: which redirects of a git server are followed. Only to the same host, so that credentials never reach another one.

use url::Url;

use super::failures::{not_understood, printable};
use super::site::Site;
use crate::protocol::{Code, Failure};

const SUFFIX: &str = "/info/refs";

/// `from` is the `info/refs` URL that was asked, `location` what it answered. Returns the repository's new URL.
pub(super) fn follow(site: &Site, authenticated: bool, from: &Url, location: &str) -> Result<Url, Failure> {
    let Ok(to) = from.join(location) else {
        return Err(not_understood(site, "it redirects to something that is no URL"));
    };
    if !same_server(from, &to) {
        let target = printable(to.host_str().unwrap_or(to.scheme()), 100);
        return Err(Failure::new(
            Code::GitHostNotAllowed,
            format!("{} redirects {} to another server ({target}), which is not followed.", site.host, site.repository),
            "Credentials are sent to no other host: give the repository's new URL itself.",
        ));
    }
    match to.path().strip_suffix(SUFFIX) {
        Some(path) if to.query() == from.query() => {
            let mut repository = to.clone();
            repository.set_path(path);
            repository.set_query(None);
            repository.set_fragment(None);
            Ok(repository)
        }
        // A page, mostly the one to log in.
        _ => Err(Failure::new(
            if authenticated { Code::GitAuth } else { Code::GitRepositoryNotFound },
            format!("{} sends git's request for {} to a web page, most likely to log in.", site.host, site.repository),
            "The repository does not exist, or is private: check its name and the token.",
        )),
    }
}

/// The same scheme, host and port; or http on its way to https on the same host, each on its scheme's own port: behind any other port
/// may be another server.
fn same_server(from: &Url, to: &Url) -> bool {
    let names_credentials = !to.username().is_empty() || to.password().is_some();
    let ports = (from.port_or_known_default(), to.port_or_known_default());
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && ports == (Some(80), Some(443));
    let unchanged = from.scheme() == to.scheme() && ports.0 == ports.1;
    from.host() == to.host() && (unchanged || upgrade) && !names_credentials
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "http://git.example/octo/hello.git/info/refs?service=git-upload-pack";

    fn followed(location: &str) -> Result<String, Code> {
        let from: Url = ASKED.parse().expect("a URL");
        let site = Site::of(&"http://git.example/octo/hello.git".parse().expect("a URL"));
        follow(&site, true, &from, location).map(|url| url.to_string()).map_err(|f| f.code)
    }

    #[test]
    fn a_renamed_repository_on_the_same_host_is_followed() {
        assert_eq!(
            followed("/octo/renamed.git/info/refs?service=git-upload-pack").as_deref(),
            Ok("http://git.example/octo/renamed.git")
        );
    }
    #[test]
    fn an_upgrade_to_https_is_followed() {
        assert_eq!(
            followed("https://git.example/octo/hello.git/info/refs?service=git-upload-pack").as_deref(),
            Ok("https://git.example/octo/hello.git")
        );
    }
    #[test]
    fn another_host_or_port_is_not() {
        for location in [
            "http://evil.example/octo/hello.git/info/refs?service=git-upload-pack",
            "http://git.example:8080/octo/hello.git/info/refs?service=git-upload-pack",
            "https://git.example:8443/octo/hello.git/info/refs?service=git-upload-pack",
            "https://git.example:80/octo/hello.git/info/refs?service=git-upload-pack",
            "http://git.example.evil.example/octo/hello.git/info/refs?service=git-upload-pack",
            "//169.254.169.254/octo/hello.git/info/refs?service=git-upload-pack",
            "http://user:pw@git.example/octo/hello.git/info/refs?service=git-upload-pack",
            "file:///etc/info/refs?service=git-upload-pack",
        ] {
            assert_eq!(followed(location), Err(Code::GitHostNotAllowed), "{location}");
        }
    }
    #[test]
    fn a_port_of_its_own_is_not_left_for_https() {
        let from: Url = "http://git.example:8080/octo/hello.git/info/refs?service=git-upload-pack".parse().expect("a URL");
        let site = Site::of(&"http://git.example:8080/octo/hello.git".parse().expect("a URL"));
        for port in ["", ":443", ":8080", ":8443"] {
            let location = format!("https://git.example{port}/octo/hello.git/info/refs?service=git-upload-pack");
            let followed = follow(&site, true, &from, &location).map_err(|f| f.code);
            assert_eq!(followed.err(), Some(Code::GitHostNotAllowed), "{location}");
        }
    }
    #[test]
    fn a_login_page_says_that_the_token_is_wrong() {
        assert_eq!(followed("/users/sign_in"), Err(Code::GitAuth));
    }
}
