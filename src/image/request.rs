//! PURE: what is asked of the Engine for one build: the query of `POST /build`, the labels.
//!
//! `version=2` is BuildKit, `remote=client-session` its context from our session. There is no tag (`t`): an image that has a name can be
//! read by every tenant's `COPY --from`. Environment values are never build arguments: those stand in the image's history.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::form_urlencoded::Serializer;

use super::labels;
use super::tenant::TenantNames;
use crate::config::{BuildConfig, BuildNetwork};
use crate::protocol::{DeploymentId, Job};
use crate::source::CommitInfo;

/// The OCI annotations that say where an image is from. The job's URL holds no credentials (its type says so).
pub fn source_labels(job: &Job, commit: &CommitInfo) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.revision", commit.sha.to_string()),
        ("org.opencontainers.image.source", job.git.url.to_string()),
    ]);
    // a commit's time is whatever its author wrote: one outside the calendar is left out
    if let Some(created) = OffsetDateTime::from_unix_timestamp(commit.time).ok().and_then(|time| time.format(&Rfc3339).ok()) {
        labels.insert("org.opencontainers.image.created", created);
    }
    labels
}

/// Filters that find the images of one attempt in the Engine's list.
pub fn attempt_filter(deployment: &DeploymentId, attempt: u32, worker: &str) -> Vec<String> {
    [(labels::DEPLOYMENT, deployment.as_str()), (labels::ATTEMPT, &attempt.to_string()), (labels::WORKER, worker)]
        .map(|(label, value)| format!("{label}={value}"))
        .to_vec()
}

/// What differs from build to build.
pub struct BuildRequest<'a> {
    pub dockerfile: &'a str,
    pub session: &'a str,
    /// Names the build for `POST /build/cancel`.
    pub build_id: &'a str,
    pub tenant: &'a TenantNames,
    pub labels: &'a BTreeMap<&'static str, String>,
}

/// The query of `POST /build`.
pub fn build_query(config: &BuildConfig, request: &BuildRequest) -> String {
    let arguments = BTreeMap::from([("BUILDKIT_CACHE_MOUNT_NS", &request.tenant.cache_mounts)]);
    let json = |map: serde_json::Result<String>| map.unwrap_or_default();
    let mut query = Serializer::new(String::new());
    query
        .append_pair("version", "2")
        .append_pair("remote", "client-session")
        .append_pair("session", request.session)
        .append_pair("buildid", request.build_id)
        .append_pair("dockerfile", request.dockerfile)
        .append_pair("platform", &config.platform)
        .append_pair("labels", &json(serde_json::to_string(request.labels)))
        .append_pair("buildargs", &json(serde_json::to_string(&arguments)))
        .append_pair("extrahosts", &format!("{}:127.0.0.1", request.tenant.extra_host));
    if config.network == BuildNetwork::None {
        query.append_pair("networkmode", "none");
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretString;

    fn query(network: BuildNetwork) -> Vec<(String, String)> {
        let config = BuildConfig {
            engine_socket: "/run/docker.sock".into(),
            platform: "linux/amd64".into(),
            network,
            cache_max_bytes: 0,
            context_max_bytes: 0,
            image_max_bytes: 0,
            pull_registries: Vec::new(),
        };
        let secrets = [("TOKEN".to_owned(), SecretString::from("s3cr3t".to_owned()))];
        let tenant = TenantNames::new(&SecretString::from("key".to_owned()), "svc", &secrets);
        let labels = BTreeMap::from([(labels::SERVICE, "a&b=c".to_owned())]);
        let request =
            BuildRequest { dockerfile: "a b/Dockerfile&t=x", session: "s1", build_id: "b1", tenant: &tenant, labels: &labels };
        let query = build_query(&config, &request);
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    #[test]
    fn a_build_has_no_tag_whatever_its_dockerfile_is_called() {
        let query = query(BuildNetwork::Default);
        assert!(query.iter().all(|(key, _)| key != "t" && key != "networkmode"), "{query:?}");
        assert!(query.contains(&("dockerfile".to_owned(), "a b/Dockerfile&t=x".to_owned())));
        assert!(query.contains(&("labels".to_owned(), "{\"dev.slipway.service\":\"a&b=c\"}".to_owned())));
    }

    #[test]
    fn the_only_build_argument_is_the_name_of_the_cache_mounts() {
        let query = query(BuildNetwork::None);
        let arguments = &query.iter().find(|(key, _)| key == "buildargs").expect("there").1;
        let arguments: BTreeMap<String, String> = serde_json::from_str(arguments).expect("JSON");
        assert_eq!(arguments.keys().collect::<Vec<_>>(), ["BUILDKIT_CACHE_MOUNT_NS"]);
        assert!(query.iter().all(|(_, value)| !value.contains("s3cr3t")));
        assert!(query.contains(&("networkmode".to_owned(), "none".to_owned())));
    }
}
