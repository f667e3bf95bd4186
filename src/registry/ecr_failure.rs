//! What the ECR API's errors mean, and what the operator can do.

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};

use super::push_failure::one_line;
use crate::protocol::{Code, Failure};

/// Where and as whom the API was asked; both stand in the words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The IAM action, e.g. `ecr:CreateRepository`.
    pub(super) action: &'a str,
    pub(super) region: &'a str,
}

/// Whether the identity lacks the right to `action`.
pub(super) fn is_access_denied<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.as_service_error().is_some_and(|error| error.code().is_some_and(means_denied))
}

fn means_denied(code: &str) -> bool {
    matches!(code, "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation")
}

pub(super) fn failure<E, R>(asked: Asked<'_>, error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let error = service.err();
            if error.code().is_none() {
                // What speaks for AWS names a code: this is a proxy, or a load balancer that has lost its servers.
                return unreachable(asked, "what answers there is not the API");
            }
            from_service(asked, error.code().unwrap_or("unknown"), error.message().unwrap_or_default())
        }
        SdkError::TimeoutError(_) => unreachable(asked, "it did not answer in time"),
        other => {
            let chain = chain(other);
            if chain.contains("credential") { no_credentials(&chain) } else { unreachable(asked, &chain) }
        }
    }
}

/// The API is there and does not serve for now: it is waited for as one that is away.
fn is_trouble_of_its_own(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "InternalFailure"
            | "InternalError"
            | "ServerException"
    )
}

fn from_service(asked: Asked<'_>, code: &str, message: &str) -> Failure {
    let Asked { action, region } = asked;
    let message = one_line(message);
    if is_trouble_of_its_own(code) {
        return unreachable(asked, &format!("it answers {code}"));
    }
    let (cause, way_out) = match code {
        code if means_denied(code) => {
            (format!("AWS denies {action}: {message}."), format!("Allow {action} for this worker's AWS identity."))
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" => (
            "AWS does not know the access key.".to_owned(),
            "Check AWS_ACCESS_KEY_ID; a temporary key also needs AWS_SESSION_TOKEN.".to_owned(),
        ),
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => (
            "AWS refuses the signature of the request.".to_owned(),
            "Check AWS_SECRET_ACCESS_KEY and this host's clock.".to_owned(),
        ),
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => (
            "The AWS credentials have expired.".to_owned(),
            "Renew the session's credentials, and check this host's clock.".to_owned(),
        ),
        "LimitExceededException" => (
            format!("The account's ECR quota in {region} is used up: {message}."),
            "Delete repositories that nobody needs, or raise the quota.".to_owned(),
        ),
        code => (
            format!("The ECR API in {region} refused {action} ({code}): {message}."),
            "See the AWS documentation of that error.".to_owned(),
        ),
    };
    Failure::new(Code::RegistryEcr, cause, way_out)
}

fn no_credentials(chain: &str) -> Failure {
    Failure::new(
        Code::RegistryEcr,
        format!("There are no usable AWS credentials: {}.", one_line(chain)),
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this host an instance role.",
    )
}

fn unreachable(asked: Asked<'_>, why: &str) -> Failure {
    Failure::new(
        Code::RegistryUnreachable,
        format!("The ECR API in {} cannot be reached: {}.", asked.region, one_line(why)),
        "Check AWS_REGION, AWS_ENDPOINT_URL and this host's network.",
    )
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_a_bad_key_and_a_bad_secret_are_told_apart() {
        let asked = Asked { action: "ecr:CreateRepository", region: "eu-west-1" };
        let said = |code: &str| from_service(asked, code, "no\nway").to_string();
        assert!(said("AccessDeniedException").contains("Allow ecr:CreateRepository"));
        assert!(said("UnrecognizedClientException").contains("AWS_ACCESS_KEY_ID"));
        assert!(said("InvalidSignatureException").contains("AWS_SECRET_ACCESS_KEY"));
        assert!(said("ExpiredTokenException").contains("expired"));
        assert!(said("SomethingNew").contains("SomethingNew"));
        assert!(!said("SomethingNew").contains('\n'));
        for away in ["ThrottlingException", "ServerException"] {
            assert_eq!(from_service(asked, away, "").code, Code::RegistryUnreachable, "it is waited for");
        }
    }
}
