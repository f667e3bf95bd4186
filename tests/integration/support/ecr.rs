//! Looks into the ECR API (moto): what the worker made there.

use serde_json::{Value, json};

use super::parts;

const SERVICE: &str = "AmazonEC2ContainerRegistry_V20150921";

/// The lifecycle policy of a repository; `None` when it, or the repository, does not exist.
pub async fn lifecycle_policy(repository: &str) -> Option<Value> {
    let answer = call("GetLifecyclePolicy", json!({"repositoryName": repository})).await?;
    serde_json::from_str(answer["lifecyclePolicyText"].as_str()?).ok()
}

/// moto looks at the region and the service of the signature, never at the signature.
async fn call(action: &str, body: Value) -> Option<Value> {
    let authorization =
        "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/ecr/aws4_request, SignedHeaders=host, Signature=0";
    let request = super::registry::http().post(&parts().moto).header("authorization", authorization);
    let request =
        request.header("content-type", "application/x-amz-json-1.1").header("x-amz-target", format!("{SERVICE}.{action}"));
    let answer = request.body(body.to_string()).send().await.expect("moto answers");
    let found = answer.status().is_success();
    let body = answer.bytes().await.expect("moto's answer");
    found.then(|| serde_json::from_slice(&body).expect("JSON"))
}
